"""A folder of pictures and a table that says what each is: your own data in the shape of a competition's.

    root/labels.csv     a column of ids and a column of labels, or one for each of several; others are passed over
    root/train/…        the pictures: an id is a file's name, with or without its ending
    root/test/…         optional: pictures to predict

The names of the table, its columns and the folders are keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cnnlab.data.dataset import Dataset, Side
from cnnlab.data.pictures import OnBadImage, PackKind, PictureDecoder, dataset_of_pictures
from cnnlab.data.registry import DATASETS
from cnnlab.data.tables import Table, find_by_table
from cnnlab.errors import ConfigError
from cnnlab.signature import Meaning


@DATASETS.register
def image_csv(
    *,
    root: Annotated[str, Meaning("the folder with the pictures and the table of their labels")],
    table: str = "labels.csv",
    id_column: str = "id",
    label_column: str = "label",
    folder: str = "train",
    test_folder: str = "test",
    label_columns: tuple[str, ...] = (),
    label_separator: str | None = None,
    submission: Literal["class", "probability", "probabilities"] = "class",
    image_size: Side = 64,
    resize: Side | None = None,
    grey: bool = False,
    cache: str | None = None,
    pack: PackKind = "raw",
    on_bad_image: OnBadImage = "error",
) -> Dataset:
    """Any pictures in a folder, labelled by a CSV table beside it; classes are its labels, sorted.

    `table`, `folder` and `test_folder` are paths below `root`; `submission` is what is asked of the pictures to
    predict: the name of the class, the probability of the second, or that of each. A picture has several labels where
    there are `label_columns`, of 0 and 1, or a `label_separator` between names in the one column; a submission tells
    them alike. Raises DataError with everything that is wrong.
    """
    if label_columns and label_separator is not None:
        raise ConfigError(
            "dataset.label_columns, dataset.label_separator: both were given; expected columns of 0 and 1, or what is "
            "between the names in one column"
        )
    labels = Table(table, id_column, label_column, label_columns=label_columns, separator=label_separator)
    found = find_by_table(root, labels, folder, test_folder, value=submission, skip=on_bad_image == "skip")
    return dataset_of_pictures(
        root,
        found.classes,
        found.files,
        PictureDecoder(image_size, resize, grey, pack),
        cache,
        on_bad_image,
        competition=found.competition,
        task=found.task,
    )
