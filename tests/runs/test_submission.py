"""Submissions of small competitions to the letter, and samples that they cannot be held against."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from cnnlab.data import Competition, Facts
from cnnlab.errors import ConfigError, DataError
from cnnlab.runs.submission import format_submission, plan_submission, require_sound
from cnnlab.tasks import TASKS

CLASSES = ("beagle", "chow", "whippet")
IDS = ("10", "2", "1")
SCORES = np.array([[0.5, 0.25, 0.25], [0.125, 0.5, 0.375], [0.0, 0.25, 0.75]])


def make_facts(classes=CLASSES, task="multiclass") -> Facts:
    return Facts(classes, channels=3, image_size=8, task=TASKS[task])


def write(competition: Competition, facts: Facts | None = None, scores=SCORES, ids=IDS, value=None) -> str:
    layout = plan_submission(facts or make_facts(), competition, ids, value)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(format_submission(layout, scores))
    return text.getvalue()


# --- To the letter --------------------------------------------------------------------------------------


def test_classes_in_the_order_of_the_images():
    assert write(Competition("class")) == "id,label\n10,beagle\n2,chow\n1,whippet\n"


def test_a_probability_for_each_class():
    expected = "image,beagle,chow,whippet\n10,0.5,0.25,0.25\n2,0.125,0.5,0.375\n1,0,0.25,0.75\n"
    assert write(Competition("probabilities", id_column="image")) == expected


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_probability_of_the_second_class(task):
    scores = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    text = write(Competition("probability"), make_facts(("cat", "dog"), task), scores)
    assert text == "id,label\n10,0.5\n2,0.75\n1,0\n"


def test_the_number_of_a_class():
    """As dogs vs cats wants it: 1 is a dog. A tie is the first's, as in the accuracy."""
    scores = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    text = write(Competition("number"), make_facts(("cat", "dog"), "multiclass"), scores)
    assert text == "id,label\n10,0\n2,1\n1,0\n"


def test_numbers_of_a_regression():
    numbers = make_facts(("age",), "regression")
    text = write(Competition("class", value_column="age"), numbers, np.array([[31.5], [-2.0], [7.0]]))
    assert text == "id,age\n10,31.5\n2,-2\n1,7\n"


def test_the_sample_decides_about_rows_and_columns(tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("id,whippet,beagle,chow\n2,0,0,0\n10,0,0,0\n1,0,0,0\n")
    expected = "id,whippet,beagle,chow\n2,0.375,0.125,0.5\n10,0.25,0.5,0.25\n1,0.75,0,0.25\n"
    assert write(Competition("probabilities", sample=sample)) == expected


def test_another_format_can_be_asked_for():
    assert write(Competition("probabilities"), value="class") == write(Competition("class"))


# --- Refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "messages"),
    [
        ("id,beagle,chow,whippet,poodle\n1,,,,\n2,,,,\n10,,,,\n", ["unknown classes (1): poodle"]),
        ("id,beagle,chow\n1,,\n2,,\n10,,\n", ["classes that it lacks (1): whippet"]),
        ("name,beagle,chow,whippet\n1,,,\n2,,,\n10,,,\n", ["first column is ['name']; expected id"]),
        (
            "id,beagle,chow,whippet\n1,,,\n1,,,\n3,,,\n4,,,\n",
            [
                "ids that stand twice (1): 1",
                "ids without an image to predict (2): 3, 4",
                "ids that it lacks (2): 10, 2",
            ],
        ),
        ("", ["first column is []", "ids that it lacks (3): 10, 2, 1"]),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_everything_about_it(tmp_path, sample, messages):
    (tmp_path / "sample.csv").write_text(sample)
    with pytest.raises(DataError) as error:
        write(Competition("probabilities", sample=tmp_path / "sample.csv"))
    for message in messages:
        assert message in str(error.value)


def test_a_sample_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "sample.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        write(Competition("class", sample=tmp_path / "sample.csv"))


def test_two_images_of_one_id_are_refused():
    with pytest.raises(DataError, match=r"ids of more than one image \(1\): 1"):
        write(Competition("class"), ids=("1", "2", "1"))


@pytest.mark.parametrize(
    ("classes", "task", "value"),
    [
        (CLASSES, "multiclass", "probability"),
        (("age",), "regression", "probability"),
        (("age",), "regression", "probabilities"),
        (("x", "y"), "regression", "class"),
    ],
)
def test_a_format_that_the_task_does_not_have_is_refused(classes, task, value):
    with pytest.raises(ConfigError, match=f"--format {value}: .*expected"):
        plan_submission(make_facts(classes, task), Competition("class"), IDS, value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], r"no finite numbers \(1\): 2"),
        ([1.5, -0.25, -0.25], r"outside 0 … 1 \(1\): 2"),
        ([0.5, 0.25, 0.125], r"do not sum to one \(1\): 2"),
    ],
)
def test_probabilities_that_are_none_are_refused(row, message):
    scores = SCORES.copy()
    scores[1] = row
    with pytest.raises(DataError, match=message):
        require_sound(make_facts(), IDS, scores)


def test_sound_scores_pass():
    require_sound(make_facts(), IDS, SCORES)
    require_sound(make_facts(("age",), "regression"), IDS, np.array([[-3.0], [200.0], [0.0]]))
    with pytest.raises(DataError, match="no finite numbers"):
        require_sound(make_facts(("age",), "regression"), IDS, np.array([[-3.0], [np.inf], [0.0]]))
