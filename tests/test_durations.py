from __future__ import annotations

import pytest

from cnnlab.durations import Duration, Time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500 steps", (500, "step")),
        ("1 epoch", (1, "epoch")),
        ("0.5epochs", (0.5, "epoch")),
        (" 64000 examples ", (64000, "example")),
    ],
)
def test_parse(text, expected):
    assert Duration.parse(text) == Duration(*expected)


@pytest.mark.parametrize("text", ["500", "steps", "-1 steps", "0 steps", "1 fortnight", "", f"{10**400} steps"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a number above 0 and a unit"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("amount", "unit", "steps"),
    [
        (10, "epoch", 9380),  # 60,000 images in batches of 64: 937 full ones and one of 32
        (0.5, "epoch", 469),
        (0.1 + 0.2, "epoch", 282),  # 281.4
        (1e-9, "epoch", 1),
        (7, "step", 7),
        (64, "example", 1),
        (65, "example", 2),
        (60_000, "example", 938),
        (600_000, "example", 9380),
        (60_001, "example", 939),
    ],
)
def test_count_steps(amount, unit, steps):
    assert Duration(amount, unit).count_steps(num_examples=60_000, batch_size=64) == steps


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90), (" 1.5 h ", 5400), ("2h 0m 1s", 7201)]
)
def test_parse_time(text, seconds):
    assert Time.parse(text) == Time(seconds)


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "0s", "30m1h", "soon", f"{10**400}h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="expected hours, minutes or seconds"):
        Time.parse(text)


@pytest.mark.parametrize("text", ["500 steps", "1 epoch", "0.5 epochs", "64000 examples", "0.1 epochs"])
def test_a_duration_is_written_as_it_is_read(text):
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize("text", ["30m", "1h30m", "1.5s", "2h1s"])
def test_a_time_is_written_as_it_is_read(text):
    assert str(Time.parse(text)) == text
    assert Time.parse(str(Time.parse("90m"))) == Time(5400)
