"""Exercises: every answer against a value worked out apart from the lesson's code, and how answers are read."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest

from cnnlab.errors import ConfigError
from cnnlab.lessons.course import COURSE
from cnnlab.lessons.exercises import Exercise, check

ANSWERS = {
    "cross_correlation": [0 * 1 + 4 * -1, (4, 4), (1, 0, 0, 0)],
    "edges": [-1, -2, (1, 1, 0, -1)],
    "vertical_edge": [-30, 10 * (1 + 2 + 1), 0],
    "padding": [3, 7, 3],
    "stride": [112, 2, 4],
    "shapes": [(3, 0), (4, 2), 2],
    "channels": [(8, 3, 5, 5), 8 * 28 * 28, 19 + 2 * 37],
    "conv": [16 * (75 + 1), (476, 636), 16 * 28 * 28 * 75],
    "one_by_one": [256 * 64, 1, 2],
    "max_pool": [9, "no", 4],
    "pooling": [(3, 2), 2, -8],
    "from_numpy": [(5, 0), "no"],
    "regression": [-2 * 40.225 / 17, 0.022143, 4],
    "regression_linear": [55, -0.003, 9],
    "in_place": [3 - 0.25 * 6, 7, "no"],
    "learn_kernel": [0.64, -0.8, "no"],
    "overwritten": [12, "no", 16],
    "stacked_linear": [(2, 10), 67 - 22, 4],
    "activations": [1 / 64, -0.03, 1 / 0.25],
    "dense_to_conv": [784 * 100 + 100, 1000, 1],
    "problems": [120, 0.25, 0.5],
    "losses": [math.log(4), 3, 100],
    "cross_entropy": [math.log(120), -0.3, 0],
    "one_hot": [(0, 0, 1, 0), 120, 0.91],
    "combined_losses": [2.5, 500, 8],
    "layers": [(-3, -1, 4), (3, 5), "no"],
    "block": [4 * 8 + 8 + 8 * 3 + 3, 0],
    "sequential": ["4.weight", 6, "modulelist"],
    "conv2d": [9, 16],
    "constants": ["parameter", 4, 0.25],
    "parameters": ["0.1.0.weight", 5, 10],
    "initialization": [1 / 6, 0.1, 0.2],
    "init_blocks": [5000, 29.1667, 4],
    "tied": [12, 576, 30],
    "files": [0, 2, 5],
    "gpu": [0, "model"],
    "momentum": [10, -0.5, 2 - 0.5 * 0.2],
    "adam": [(0.5, 5), 1],
    "optimizers": ["no", 1, 2],
    "schedules": [0.0003, 0.853553, 0.1 / 3.8],
    "normalize": [0.5, -0.4242, 1],
    "augmentation": [81, "no", 141.42],
    "batch_norm": [0.5, 16, 128],
    "averages": [1.4, 2.3023, 48],
    "best_epoch": [0.0094868, 2, 10],
    "repeat": [13, "sorted", "no"],
    "lenet": [880, 576, 4.1682],
    "small_kernels": [9, 400 / 9, 1],
    "pool_order": [1, 2, "no"],
    "bottleneck": [589_824, 2 * 16_384 + 36_864, 100 * (192 * 32 + 25 * 32 * 32) / (25 * 192 * 32)],
    "groups": [1152, 100 * (1 / 256 + 1 / 9), (0, 3, 1, 4, 2, 5)],
    "inception": [88 * 16 + 16, 88, 3],
    "vanishing": [1e-10, 2.5937, "no"],
    "residual": [32 * 5 * 5, 2 * (16 * 16 * 9 + 16), (0, 2)],
    "residual_variants": [1 / 1024, 0.0024726, 2 * 16 * 16 * 9 + 2 * 32],
    "densenet": [24 + 16 * 12, 136, 1024],
    "fine_tuning": [512 * 120 + 120, 0, "no"],
    "case_line": [3.3476, 0.023149],
    "case_mnist": [844, 147, 10],
    "case_fashion": [2110, 0.37109, "no"],
    "case_cifar10": [196, 9, 10],
    "case_dog_breeds": [144, 2.302585, 0.0075],
    "case_cats_dogs": [0.36698, 4.60517, 1],
}


@pytest.mark.parametrize("lesson", COURSE.values(), ids=COURSE.keys())
def test_answers(lesson):
    exercises = lesson.exercises
    assert len(exercises) in (2, 3)
    assert len(ANSWERS[lesson.name]) == len(exercises)
    for computed, expected in zip(exercises, ANSWERS[lesson.name], strict=True):
        answer = computed.answer()
        exercise = dataclasses.replace(computed, answer=partial(lambda known: known, answer))  # once is enough
        assert isinstance(answer, str) == isinstance(expected, str), exercise.question
        assert answer == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-3)), (
            exercise.question
        )
        typed = ",".join(map(str, expected)) if isinstance(expected, tuple) else str(expected)
        assert check(exercise, typed) == (True, "right"), exercise.question
        assert exercise.question[-1] in "?)." and exercise.hint.endswith((".", "?"))
        for slip in exercise.slips:
            right, message = check(exercise, ",".join(map(str, slip)) if isinstance(slip, tuple) else str(slip))
            assert not right and message.endswith(exercise.hint)


NUMBER = Exercise("How many?", lambda: 1024, "Count again.", slips={1000: "That is without the biases."})
DECIMAL = Exercise("How much?", lambda: 0.0221, "Look again.")
SHAPE = Exercise("Which shape?", lambda: (8, 3, 5, 5), "Outputs first.")
WORD = Exercise("Does it?", lambda: "no", "Try it.")


@pytest.mark.parametrize(
    ("exercise", "text"),
    [
        (NUMBER, "1024"),
        (NUMBER, "1,024"),
        (NUMBER, "1_024"),
        (NUMBER, "1024.0"),
        (DECIMAL, "0.0222"),
        (DECIMAL, "2/90.5"),
        (SHAPE, "8,3,5,5"),
        (SHAPE, "[8, 3, 5, 5]"),
        (SHAPE, "8x3x5x5"),
        (SHAPE, "8×3×5×5"),
        (WORD, "No"),
    ],
)
def test_answers_may_be_typed_in_many_ways(exercise, text):
    assert check(exercise, text) == (True, "right")


@pytest.mark.parametrize(
    ("exercise", "text", "message"),
    [
        (NUMBER, "1025", "not yet. Count again."),
        (NUMBER, "1000", "not yet. That is without the biases. Count again."),
        (DECIMAL, "0.023", "not yet. Look again."),
        (SHAPE, "3,8,5,5", "not yet. Outputs first."),
        (SHAPE, "8,3,5", "not yet. Outputs first."),
        (WORD, "yes", "not yet. Try it."),
    ],
)
def test_wrong_answers_are_told_what_to_look_at_again(exercise, text, message):
    assert check(exercise, text) == (False, message)


@pytest.mark.parametrize(("exercise", "text"), [(NUMBER, "many"), (SHAPE, "8,x"), (DECIMAL, "1/0")])
def test_what_cannot_be_read_is_an_error(exercise, text):
    with pytest.raises(ConfigError, match="was given; expected"):
        check(exercise, text)
