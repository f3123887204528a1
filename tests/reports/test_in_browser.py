"""Pages in a real browser: opened, clicked, sorted, by keyboard, narrow, in the dark; nothing on its console."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab.cli import main
from cnnlab.reports.command import report
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.start import start
from tests.conftest import SMALL, small_config
from tests.reports.browser import CHROMIUM, Browser

pytest.importorskip("plotly", reason="reports need plotly")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
CELL = "document.querySelector('#cell h3').textContent"
FIRST = "document.querySelector('#scores tbody tr td').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    run = start(small_config(tmp_path_factory.mktemp("run")), [])
    return report(str(run), [], None, False)


@pytest.fixture(scope="module")
def breeds(tmp_path_factory) -> RunDirectory:
    """A run of 120 classes with long names that has learned nothing, so that its mistakes are everywhere."""
    folder = tmp_path_factory.mktemp("breeds")
    rng = np.random.default_rng(0)
    for part, number in (("train", 4), ("valid", 2), ("test", 10)):
        for breed in range(120):
            where = folder / "data" / part / f"n{breed:03}-a breed with a <long> name"
            where.mkdir(parents=True)
            for k in range(number):
                pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(where / f"{k}.jpg")
    tree = ["dataset=image_folder", f"dataset.root={folder / 'data'}", "dataset.image_size=64", "model=linear"]
    return start(small_config(folder, *tree, "epochs=1"), [])


@pytest.fixture(autouse=True)
def _nothing_on_the_console(browser: Browser) -> Iterator[None]:
    browser.problems.clear()
    yield
    assert browser.problems == []


def draw_all(browser: Browser) -> None:
    browser.run("document.querySelectorAll('.plot').forEach((place) => { if (!place.dataset.drawn) draw(place); })")
    browser.wait_for("[...document.querySelectorAll('.plot')].every((place) => place.querySelector('svg'))")


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(browser, page):
    browser.open(page)
    browser.run("document.getElementById('confusion').scrollIntoView({block: 'center', behavior: 'instant'})")
    browser.wait_for("document.querySelector('#confusion[data-drawn]')")
    time.sleep(0.5)
    middle = """(() => {
        const place = document.getElementById('confusion'), box = place.getBoundingClientRect();
        const {xaxis, yaxis} = place._fullLayout;
        return [box.x + xaxis._offset + xaxis.l2p(3), box.y + yaxis._offset + yaxis.l2p(3)];
    })()"""
    browser.click(*browser.run(middle))
    browser.wait_for(f"{CELL}.startsWith('3 taken for 3')")
    shown = browser.run("document.querySelectorAll('#cell img').length")
    assert f"{shown} shown" in browser.run(CELL) and shown > 0
    browser.wait_for("[...document.querySelectorAll('#cell img')].every((image) => image.naturalWidth > 0)")


def test_by_keyboard_tables_are_sorted_and_cells_opened(browser, page):
    browser.open(page)
    browser.run("document.querySelector('#scores th:nth-child(4) button').focus()")
    browser.press_enter()
    recalls = "[...document.querySelectorAll('#scores tbody td:nth-child(4)')].map((cell) => Number(cell.textContent))"
    values = browser.run(recalls)
    assert values == sorted(values, reverse=True)
    browser.press_enter()
    assert browser.run(recalls) == sorted(values)
    assert browser.run("document.querySelector('#scores th:nth-child(4)').ariaSort") == "ascending"
    browser.run("document.querySelector('button[data-cell]').focus()")
    browser.press_enter()
    assert "taken for" in browser.run(CELL)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(browser, page, breeds, width, dark):
    for each in (page, report(str(breeds), [], None, False), report(str(page.parent.parent), [], None, False)):
        browser.open(each, width, dark=dark)
        draw_all(browser)
        assert browser.overflow() <= 0
        colour = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") != dark


def test_120_classes_stay_small_quick_and_legible(browser, breeds):
    page = report(str(breeds), [], None, False)
    assert page.stat().st_size < 10e6
    seconds = min(browser.open(page) for _ in range(3))
    assert seconds < 2
    draw_all(browser)
    ticks = browser.run("[...document.querySelectorAll('#confusion .ytick text')].map((tick) => tick.textContent)")
    assert len(ticks) == 120 and ticks[7].startswith("n007-a breed")
    heights = "[...document.querySelectorAll('#confusion .ytick text')].map((tick) => tick.getBoundingClientRect().y)"
    places = sorted(browser.run(heights))
    assert min(b - a for a, b in zip(places, places[1:], strict=False)) > 10  # lines of names do not overlap


def test_the_page_of_a_sweep(browser, tmp_path):
    pytest.importorskip("optuna")
    typed = ["optimizer.lr=0.0001,0.003", "sweep.workers=1", "epochs=2", "plots=off", f"output_dir={tmp_path}"]
    assert main(["train", "-m", *SMALL, *typed]) == 0
    (plan,) = tmp_path.glob("sweeps/*/sweep.yaml")
    page = report(str(plan.parent), [], None, False)
    for width in (1200, 400):
        browser.open(page, width)
        draw_all(browser)
        assert browser.overflow() <= 0
        assert browser.run("document.querySelectorAll('#trials .scatterlayer .trace').length") == 2
    browser.open(page)
    draw_all(browser)
    browser.run("document.getElementById('parallel').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = browser.run(
        "(({x, y, width, height}) => [x + width / 2, y, height])"
        "(document.querySelector('#parallel .axis-brush .background').getBoundingClientRect())"
    )
    x, top, height = box
    browser.drag(x, top + height / 4, 0, height / 2)
    chosen = browser.run("document.getElementById('parallel').data[0].dimensions[0].constraintrange")
    assert 0.0001 < chosen[0] < chosen[1] < 0.003 or -4 < chosen[0] < chosen[1] < -2


def test_the_index_is_sorted_and_filtered(browser, page, tmp_path):
    for name in ("first", "second"):
        start(small_config(tmp_path, f"name={name}", "epochs=1"), [])
    browser.open(report(str(tmp_path), [], None, False))
    rows = "[...document.querySelectorAll('#runs tbody tr')].filter((row) => !row.hidden).map((row) => row.innerText)"
    assert len(browser.run(rows)) == 2
    browser.run(
        "(() => { const box = document.querySelector('input[type=search]'); box.value = 'second completed';"
        " box.dispatchEvent(new Event('input')); })()"
    )
    (left,) = browser.run(rows)
    assert left.startswith("second")
