"""Predictions against slow, obvious loops; stopped at any moment, they end as if they had not been."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlab import distributed
from cnnlab.cli import main
from cnnlab.composition import CONF
from cnnlab.config import parse
from cnnlab.data import chunks
from cnnlab.data.resize import crop_five, crop_square
from cnnlab.engine.checkpoint import load_checkpoint, save_checkpoint
from cnnlab.errors import ConfigError, DataError, Interrupted, StorageError
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.predict import predict
from cnnlab.runs.scores import Scores
from cnnlab.runs.start import start
from cnnlab.runs.trained import Trained, load_trained
from tests.conftest import compose_tree, small_config
from tests.data.kaggle import write_dogs_vs_cats, write_kaggle_cifar10

NUM_TEST = 23


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    write_kaggle_cifar10(folder, num_test=NUM_TEST)
    return folder


def train(folder: Path, data: Path, *overrides: str, dataset: str = "kaggle_cifar10") -> RunDirectory:
    common = [f"dataset={dataset}", f"dataset.root={data}", "split.test=0", "batch_size=8"]
    return start(small_config(folder, *common, *overrides), [])


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cifar) -> list[RunDirectory]:
    """Two of another seed, size and optimizer."""
    folder = tmp_path_factory.mktemp("runs")
    other = ["seed=1", "dataset.image_size=16", "optimizer=sgd", "optimizer.lr=0.1"]
    return [train(folder, cifar), train(folder, cifar, *other)]


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> tuple[RunDirectory, Path]:
    """Photographs of any size, of which a square is cut out once their shorter side is 15 pixels long; one logit."""
    folder = tmp_path_factory.mktemp("pets")
    write_dogs_vs_cats(folder / "data", sides=(20, 50))
    overrides = ["dataset.resize=15", "dataset.task=binary", "loss=bce_with_logits"]
    return train(folder / "runs", folder / "data", *overrides, dataset="dogs_vs_cats"), folder / "data"


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_IMAGES", 4)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_scores(run: RunDirectory, path: Path | None = None) -> torch.Tensor:
    """The numbers of a table of predictions, row by row."""
    names = load_trained(run).facts.classes
    return torch.tensor([[float(row[name]) for name in names] for row in read_table(path or run.predictions)]).double()


def predict_slowly(trained: Trained, pixels: np.ndarray) -> torch.Tensor:
    """Logits of one square of pixels, uint8 (H, W, C), float64 (outputs,)."""
    mean, std = torch.tensor(trained.facts.mean), torch.tensor(trained.facts.std)
    image = ((torch.from_numpy(pixels.copy()) / 255 - mean) / std).permute(2, 0, 1)
    with torch.no_grad():
        return trained.network.model(image.unsqueeze(0))[0].double()


def open_slowly(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


# --- Order and numbers ----------------------------------------------------------------------------------


def test_each_id_has_the_prediction_of_its_own_picture(runs, cifar):
    run = runs[0]
    assert predict([str(run)]) == [run.predictions, run.submission]
    ids = [row["id"] for row in read_table(cifar / "sampleSubmission.csv")]
    expected, trained = [], load_trained(run)
    for name in ids:
        pixels = crop_square(open_slowly(cifar / "test" / f"{name}.png"), 12)
        expected.append(predict_slowly(trained, pixels).softmax(0))
    table = read_table(run.predictions)
    assert [row["id"] for row in table] == ids == [str(number) for number in range(1, NUM_TEST + 1)]
    torch.testing.assert_close(read_scores(run), torch.stack(expected), rtol=0, atol=1e-5)
    likeliest = [trained.facts.classes[int(scores.argmax())] for scores in expected]
    assert [row["prediction"] for row in table] == likeliest
    assert read_table(run.submission) == [
        {"id": name, "label": label} for name, label in zip(ids, likeliest, strict=True)
    ]


def test_predictions_do_not_depend_on_chunks(runs, monkeypatch):
    predict([str(runs[0])])
    in_chunks = read_scores(runs[0])
    monkeypatch.setattr(chunks, "MAX_IMAGES", 100)
    predict([str(runs[0])])
    torch.testing.assert_close(read_scores(runs[0]), in_chunks, rtol=0, atol=1e-6)


@pytest.mark.parametrize("views", ["none", "flip"])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_views_and_runs_are_averaged_as_by_hand(runs, cifar, views, average):
    predict([str(run) for run in runs], views=views, average=average)
    expected, networks = [], [load_trained(run) for run in runs]
    for number in range(1, NUM_TEST + 1):
        outputs = []
        for trained, size in zip(networks, (12, 16), strict=True):
            picture = open_slowly(cifar / "test" / f"{number}.png")
            crop = crop_square(picture, size)
            mirrored = [crop, crop[:, ::-1]] if views == "flip" else [crop]
            outputs += [predict_slowly(trained, pixels) for pixels in mirrored]
        if average == "probabilities":
            expected.append(torch.stack([logits.softmax(0) for logits in outputs]).mean(0))
        else:
            expected.append(torch.stack(outputs).mean(0).softmax(0))
    torch.testing.assert_close(read_scores(runs[0]), torch.stack(expected), rtol=0, atol=1e-5)


def test_crops_that_are_all_the_same_are_refused(runs):
    """CIFAR's pictures are as large as what the network reads: five crops would be the centre five times."""
    with pytest.raises(ConfigError, match="squares of 12 pixels, as the network reads them.*expected --tta flip"):
        predict([str(runs[0])], views="multicrop")


def test_one_logit_gives_the_probability_of_the_second_class(pets):
    run, data = pets
    predict([str(run)], views="multicrop", value="probability")
    expected, trained = [], load_trained(run)
    for number in range(1, 13):
        picture = open_slowly(data / "test1" / f"{number}.jpg")
        crops = crop_five(picture, 12, 15)
        views = [pixels for crop in crops for pixels in (crop, crop[:, ::-1])]
        expected.append(torch.stack([predict_slowly(trained, pixels).sigmoid()[0] for pixels in views]).mean())
    dogs = torch.tensor([float(row["label"]) for row in read_table(run.submission)]).double()
    torch.testing.assert_close(dogs, torch.stack(expected), rtol=0, atol=1e-4)
    torch.testing.assert_close(read_scores(run).sum(1), torch.ones(12).double())


def test_many_runs_that_are_one_run_are_that_run(runs):
    predict([str(runs[0])])
    alone = read_scores(runs[0])
    predict([str(runs[0])] * 3)
    torch.testing.assert_close(read_scores(runs[0]), alone, rtol=0, atol=1e-8)


# --- What is predicted ----------------------------------------------------------------------------------


def test_a_part_gives_the_accuracy_of_the_evaluation(runs):
    predict([str(runs[0])], part="valid", output=str(runs[0].path / "valid.csv"))
    table = read_table(runs[0].path / "valid.csv")
    accuracy = sum(row["label"] == row["prediction"] for row in table) / len(table)
    assert accuracy == evaluate_run(str(runs[0]), "valid")["accuracy"]


def test_files_are_seen_as_they_are_packed(pets, tmp_path):
    run, data = pets
    packed, files = tmp_path / "packed.csv", tmp_path / "files.csv"
    predict([str(run)], views="multicrop", part="train", output=str(packed))
    predict([str(run)], views="multicrop", images=str(data / "train"), output=str(files))
    by_name = dict(zip([row["id"] for row in read_table(files)], read_scores(run, files), strict=True))
    expected = [by_name[f"{row['id']}.jpg"] for row in read_table(packed)]
    torch.testing.assert_close(read_scores(run, packed), torch.stack(expected), rtol=0, atol=1e-6)


def test_a_part_is_called_as_the_labels_file_calls_it(runs, cifar):
    """Joined with the table that the data came with, the predictions have the score that was measured."""
    (written,) = predict([str(runs[0])], part="valid")
    with (cifar / "trainLabels.csv").open(newline="") as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    table = read_table(written)
    right = [row["prediction"] == labels[row["id"]] for row in table]
    assert np.mean(right) == evaluate_run(str(runs[0]), "valid")["accuracy"]
    assert [row["path"] for row in table] == [str(cifar / "train" / f"{row['id']}.png") for row in table]


def test_every_kind_of_images_has_a_file_of_its_own_and_what_goes_is_said(runs, cifar, tmp_path, capsys):
    run = copy_run(runs[0], tmp_path, cifar)
    asked = [str(path) for path in predict([str(run)])]
    assert asked == [str(run.predictions), str(run.submission)]
    whole = run.predictions.read_bytes()
    for arguments in ({"part": "train"}, {"part": "valid"}, {"images": str(cifar / "test")}):
        (path,) = predict([str(run)], **arguments)
        assert path.name == f"predictions_{arguments.get('part', 'images')}.csv" and path.is_file()
    assert run.predictions.read_bytes() == whole and "written over" not in capsys.readouterr().err
    predict([str(run)])
    assert capsys.readouterr().err == f"written over: {run.predictions}\nwritten over: {run.submission}\n"
    output = tmp_path / "new" / "folder" / "mine.csv"
    whole = run.predictions.stat()
    assert predict([str(run)], output=str(output)) == [output]
    assert f"folder made: {output.parent}" in capsys.readouterr().err
    assert run.predictions.stat() == whole and output.read_bytes() == run.submission.read_bytes()


@pytest.mark.parametrize("output", ["/dev/full", ".", ""])
def test_what_is_no_file_is_not_replaced(runs, output, capsys):
    assert main(["predict", str(runs[0]), "--output", output]) == 2
    assert "expected a file" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


def test_a_pipe_in_the_place_of_saved_scores_is_told_and_not_waited_for(runs, cifar, tmp_path):
    run = copy_run(runs[0], tmp_path, cifar)
    os.mkfifo(run.scores)
    with pytest.raises(StorageError, match="scores.partial: is a named pipe; expected a file: remove it"):
        predict([str(run)])


def test_pictures_that_cannot_be_decoded_are_left_out_where_that_is_asked_for(runs, cifar, tmp_path, capsys):
    """Of a submission, which has to have a row for each, they have the mean of the others' scores."""
    run, data = copy_run(runs[0], tmp_path, cifar), tmp_path / "data"
    (data / "sampleSubmission.csv").unlink()  # which asks for the likeliest class
    for number in (1, 2, 3, 4, 7):  # a whole chunk, and one of another
        (data / "test" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="4 pictures cannot be decoded.*--on-bad-image skip"):
        predict([str(run)])
    assert main(["predict", str(run), "--on-bad-image", "skip", "--format", "probabilities"]) == 0
    assert "pictures left out, they cannot be decoded (5): 1, 2, 3, 4, 7; in the sub" in capsys.readouterr().err
    table, submission = read_table(run.predictions), read_table(run.submission)
    assert [row["id"] for row in table] == [str(number) for number in range(5, NUM_TEST + 1) if number != 7]
    assert [row["id"] for row in submission] == [str(number) for number in range(1, NUM_TEST + 1)]
    for name in load_trained(run).facts.classes:
        mean = np.mean([float(row[name]) for row in table])
        assert [float(submission[n][name]) for n in (0, 1, 2, 3, 6)] == pytest.approx([mean] * 5, abs=1e-8)
    run.config.write_text(run.config.read_text().replace("on_bad_image: error", "on_bad_image: skip"))
    (written,) = predict([str(run)], images=str(data / "test"))
    assert len(read_table(written)) == NUM_TEST - 5


def test_moving_pictures_are_told_once(runs, tmp_path, capsys):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for number in range(9):  # more than a chunk
        frames[0].save(tmp_path / f"{number}.gif", save_all=True, append_images=frames[1:])
    distributed._SAID.clear()
    predict([str(runs[0])], images=str(tmp_path), output=str(tmp_path / "out.csv"))
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "files with several frames, of which the first is taken (9): " in told


def test_a_head_on_kept_features_predicts_with_its_whole_network(cifar, tmp_path):
    tuning = ["model=resnet20", "model.freeze=backbone", "model.head=[8]", "model.feature_views=1"]
    run = train(tmp_path, cifar, *tuning, "dataset.normalize=auto", "split.valid=0.5")
    (written,) = predict([str(run)], part="valid")
    table = read_table(written)
    log_loss = -np.mean([np.log(float(row[row["label"]])) for row in table])
    assert log_loss == pytest.approx(evaluate_run(str(run), "valid")["log_loss"], rel=1e-5)


def test_numbers_are_predicted_without_probabilities(tmp_path):
    config = parse(compose_tree("experiment=linear_regression", "epochs=20", f"output_dir={tmp_path}"))
    run = start(config, [])
    (written,) = predict([str(run)], part="test")
    network = load_trained(run).network.model
    for row, x in zip(read_table(written), (5.654, 9.27), strict=True):
        assert list(row) == ["id", "label_y", "y"]
        assert float(row["y"]) == pytest.approx(network(torch.full((1, 1, 1, 1), x)).item(), abs=1e-5)


def test_pictures_of_any_kind_in_folders(runs, tmp_path, capsys):
    folder = tmp_path / "mine"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "2.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter to the right
    Image.fromarray(np.rot90(pixels).copy()).save(folder / "10.png", exif=turned)
    Image.fromarray(pixels).convert("P").save(folder / "more" / "palette.gif")
    Image.fromarray(pixels).convert("RGBA").save(folder / "more" / "clear.png")
    Image.fromarray(pixels[..., 0]).save(folder / "more" / "grey.bmp")
    (folder / "notes.txt").write_text("no picture")
    assert main(["predict", str(runs[0]), "--images", str(folder)]) == 0
    written = runs[0].path / "predictions_images.csv"
    table = read_table(written)
    assert [row["id"] for row in table] == ["2.png", "10.png", "more/clear.png", "more/grey.bmp", "more/palette.gif"]
    scores = read_scores(runs[0], written)
    expected = predict_slowly(load_trained(runs[0]), crop_square(pixels, 12)).softmax(0)
    for same in (0, 1, 2):
        torch.testing.assert_close(scores[same], expected, rtol=0, atol=1e-5)
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("2.png") and out.splitlines()[-1] == str(written)


def test_one_picture_without_the_dataset(runs, cifar, tmp_path):
    """The images that a run learned from need not be where it is used."""
    moved = tmp_path / "run"
    subprocess.run(["cp", "-r", str(runs[0]), str(moved)], check=True)
    config = (moved / "config.yaml").read_text().replace(str(cifar), str(tmp_path / "gone"))
    (moved / "config.yaml").write_text(config)
    files = predict([str(moved)], images=str(cifar / "test" / "7.png"), output=str(tmp_path / "out.csv"))
    assert files == [tmp_path / "out.csv"]
    predict([str(runs[0])])
    assert read_table(files[0])[0]["prediction"] == read_table(runs[0].predictions)[6]["prediction"]
    with pytest.raises(DataError, match="gone"):
        predict([str(moved)])


# --- What is refused ------------------------------------------------------------------------------------


def test_runs_that_do_not_go_together_are_refused_with_what_differs(runs, pets, tmp_path):
    digits = start(small_config(tmp_path, "epochs=1"), [])
    with pytest.raises(ConfigError) as error:
        predict([str(runs[0]), str(runs[1]), str(pets[0]), str(digits)])
    text = str(error.value)
    for part in (
        f"task of {pets[0]}: binary, not multiclass",
        f"classes of {pets[0]}: 2, not 10: has none, lacks airplane, automobile, bird, …",
        f"channels of {digits}: 1, not 3",
    ):
        assert part in text
    assert str(runs[1]) not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": "nowhere"}, "is not there; expected a picture"),
        ({"images": "nowhere", "part": "train"}, "both were given"),
        ({"part": "test"}, "expected one of train, valid"),
        ({"part": "train", "value": "class"}, "is for a submission"),
        ({"value": "probability"}, "there are 10"),
    ],
)
def test_what_cannot_be_predicted_is_refused(runs, arguments, message):
    with pytest.raises((ConfigError, DataError), match=message):
        predict([str(runs[0])], **arguments)


def test_a_dataset_without_images_to_predict_is_refused(tmp_path):
    run = start(small_config(tmp_path, "epochs=1"), [])
    with pytest.raises(ConfigError, match="digits, has no images without labels.*--images"):
        predict([str(run)])


def test_a_torn_picture_is_named_and_nothing_written(runs, tmp_path, cifar):
    run = copy_run(runs[0], tmp_path, cifar)
    torn = tmp_path / "data" / "test" / "9.png"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:60])
    with pytest.raises(DataError, match="1 picture cannot be decoded(.|\n)*9.png"):
        predict([str(run)])
    assert not run.predictions.exists() and not run.submission.exists()
    torn.write_bytes(whole)
    predict([str(run)])
    assert run.submission.exists() and not run.scores.exists()


def test_predictions_that_are_no_numbers_are_not_written(runs, tmp_path, cifar):
    run = copy_run(runs[0], tmp_path, cifar)
    contents = load_checkpoint(run.best)
    for value in contents["model"].values():
        value.fill_(3e38)  # numbers, whose products are none
    save_checkpoint(run.best, {key: value for key, value in contents.items() if key != "format"})
    with pytest.raises(DataError, match=r"no finite numbers \(23\): 1, 2, 3"):
        predict([str(run)])
    assert not run.predictions.exists() and not run.submission.exists()


# --- Stopping and going on ------------------------------------------------------------------------------


def copy_run(run: RunDirectory, folder: Path, data: Path) -> RunDirectory:
    """The run and its data under `folder`, for a test to spoil."""
    subprocess.run(["cp", "-r", str(run), str(folder / "run")], check=True)
    subprocess.run(["cp", "-r", str(data), str(folder / "data")], check=True)
    copy = RunDirectory(folder / "run")
    copy.config.write_text(copy.config.read_text().replace(str(data), str(folder / "data")))
    for path in (*copy.path.glob("predictions*.csv"), copy.submission, copy.scores):
        path.unlink(missing_ok=True)
    return copy


KILLED = """
import os, signal, sys
from cnnlab.data import chunks, files
from cnnlab.runs.predict import predict
chunks.MAX_IMAGES = 4
calls, fsync = 0, os.fsync
def fsync_or_die(file):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)
os.fsync = fsync_or_die
predict([sys.argv[1]], views="flip")
"""


def test_killed_and_started_again_it_ends_as_if_it_had_not_been(runs, cifar, tmp_path, monkeypatch):
    run = copy_run(runs[0], tmp_path, cifar)
    predict([str(run)], views="flip")
    undisturbed = run.predictions.read_bytes(), run.submission.read_bytes()
    opened = []
    monkeypatch.setattr(Scores, "append", count_calls(Scores.append, opened))
    for number in (5, 8):  # the header, chunk 3 and 6 of six; one for each file after them
        run.predictions.unlink()
        run.submission.unlink()
        done = subprocess.run([sys.executable, "-c", KILLED, str(run), str(number)], cwd=CONF.parent)
        assert done.returncode == -signal.SIGKILL and run.scores.exists() and not run.submission.exists()
        opened.clear()
        predict([str(run)], views="flip")
        assert (run.predictions.read_bytes(), run.submission.read_bytes()) == undisturbed
        assert len(opened) == {5: 2, 8: 1}[number]  # chunks that were left; the last, shorter one is done again
        assert not run.scores.exists()


def count_calls(function, calls: list):
    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return counted


def test_ctrl_c_stops_in_good_order(runs, cifar, tmp_path, monkeypatch, capsys):
    run = copy_run(runs[0], tmp_path, cifar)
    append = Scores.append

    def append_or_stop(self, rows):
        if len(self) == 8:
            raise KeyboardInterrupt
        append(self, rows)

    monkeypatch.setattr(Scores, "append", append_or_stop)
    with pytest.raises(Interrupted):
        predict([str(run)])
    assert "stopped after 8 of 23 images; the same command goes on from there" in capsys.readouterr().out
    monkeypatch.setattr(Scores, "append", append)
    predict([str(run)])
    assert "going on after 8 of 23 images" in capsys.readouterr().out


def test_scores_of_other_weights_or_views_are_not_gone_on_with(runs, cifar, tmp_path, monkeypatch, capsys):
    run = copy_run(runs[0], tmp_path, cifar)
    monkeypatch.setattr("cnnlab.runs.predict.write_files", lambda *arguments: (_ for _ in ()).throw(Interrupted(2)))
    with pytest.raises(Interrupted):
        predict([str(run)])
    for arguments in ({"views": "flip"}, {"average": "logits"}, {"part": "train"}):
        with pytest.raises(Interrupted):
            predict([str(run)], **arguments)
        assert "going on" not in capsys.readouterr().out
    with pytest.raises(Interrupted):
        predict([str(run)], part="train")
    assert "going on after" in capsys.readouterr().out


def test_another_prediction_in_the_same_directory_waits_its_turn(runs):
    with runs[0].locked(runs[0].scores, "predicting"):
        code = f"from cnnlab.runs.predict import predict\npredict([{str(runs[0])!r}])"
        done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True)
    assert "another process is predicting here" in done.stderr


def test_a_part_that_another_network_has_trained_on_is_not_predicted(tmp_path):
    """Other splits, and the folds of a cross-validation but for its test images."""
    first, other = (start(small_config(tmp_path, "epochs=1", f"split.seed={seed}"), []) for seed in (0, 1))
    with pytest.raises(ConfigError, match="--part test: .* has other test images than .*, and may have trained on"):
        predict([str(first.path), str(other.path)], part="test")
    with pytest.raises(ConfigError, match="--part valid: .* has other valid images"):
        predict([str(first.path), str(other.path)], part="valid")
    whole = start(small_config(tmp_path, "epochs=1", "folds=2"), [])
    with pytest.raises(ConfigError, match="--part valid: .* whose out_of_fold.csv has predictions"):
        predict([str(whole.path)], part="valid")
    assert predict([str(whole.path)], part="test")


def test_a_path_that_is_not_there_is_told_so(tmp_path):
    run = start(small_config(tmp_path, "epochs=1"), [])
    with pytest.raises(DataError, match="--images .*nowhere: is not there; expected a picture"):
        predict([str(run.path)], images=str(tmp_path / "nowhere"))
