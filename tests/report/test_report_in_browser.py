"""A page of two runs in a real browser: light and dark, wide and narrow, by keyboard, without a word in the console."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.finished import finished
from vpt import reporting
from vpt.data.base import Arrays
from vpt.engine.outputs import trusted, write_predictions
from vpt.report.comparison import comparison
from vpt.report.intervals import Measured, with_intervals
from vpt.report.tables import result_rows

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver is installed"),
]

CLASSES = ("a cat with a long name", "dog", "ship <b>", "tree")
STATES = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


def run(seed: int) -> reporting.Run:
    """What a run came to, in place of training one."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(CLASSES), 80)
    logits = random.normal(size=(80, len(CLASSES))) + 2.5 * np.eye(len(CLASSES))[labels]
    images = random.integers(0, 256, (80, 24, 24, 3), dtype=np.uint8)
    samples = Arrays(images, labels.tolist(), "noise")
    import torch

    outputs = (samples, torch.from_numpy(logits), torch.from_numpy(labels))
    trust, rows = trusted({"val": outputs, "test": outputs})
    points = [{"share": share, "top1": 0.5 + share / 4, "low": 0.4, "high": 0.9} for share in (0, 0.5, 1)]
    trust |= {"line": {"of": "logits", "points": {"test": points, "noise": points}}}
    said = logits.argmax(1)
    confusion = [[int(((labels == a) & (said == b)).sum()) for b in range(4)] for a in range(4)]
    top1 = float((said == labels).mean())
    history = [{"epoch": n, "train/loss": 2 / n, "val/loss": 2.2 / n, "val/top1": n / (n + 2)} for n in range(1, 6)]
    result = finished(
        data={"name": "noise", "sizes": {"val": 80, "test": 80}, "digests": {}},
        test={"top1": top1},
        confusion=confusion,
        trust=trust,
        tuned_parameters=10**seed,
    )
    predictions = [row | {key: float(row[key]) for key in ("score", "calibrated", "of_label")} for row in rows]
    made = reporting.Run(Path(f"runs/{seed}"), f"run {seed}", result, history, predictions, "seed: 0\n", "{}")
    made.classes, made.images = CLASSES, {"val": samples, "test": samples}
    return made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of two runs, and one of a table."""
    from vpt.report.page import page
    from vpt.report.sections import sections

    work = tmp_path_factory.mktemp("pages")
    runs = [run(seed) for seed in (2, 4)]
    results = {each.name: [each.result] for each in runs}
    measured = {each.name: Measured(each.result["test"]["top1"], 300) for each in runs}
    texts = {
        "report": page("two runs", sections(runs, images=6), kind="Report", subtitle="noise"),
        "table": comparison("mine", with_intervals(result_rows(results), measured), results, measured, "test"),
    }
    for name, text in texts.items():
        (work / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: work / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()


def show(browser: Any, page: Path, scheme: str = "light", width: int = 1280) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def shot(browser: Any, path: Path) -> Image.Image:
    """The page as it is seen; kept where VPT_SCREENSHOTS names a folder."""
    folder = os.environ.get("VPT_SCREENSHOTS")
    path = Path(folder) / path.name if folder else path
    browser.save_screenshot(str(path))
    return Image.open(path).convert("L")


@pytest.mark.parametrize(("scheme", "width"), STATES)
@pytest.mark.parametrize("name", ["report", "table"])
def test_it_is_seen_in_each_state(
    browser: Any, pages: dict[str, Path], name: str, scheme: str, width: int, tmp_path: Path
) -> None:
    show(browser, pages[name], scheme, width)
    assert browser.get_log("browser") == []
    # Nothing stands beyond the screen; what is wider scrolls in its own region.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [address for address in asked if not address.startswith("data:")] == []
    brightness = np.asarray(shot(browser, tmp_path / f"{name}-{scheme}-{width}.png"))
    assert (np.median(brightness) > 200) == (scheme == "light")
    assert brightness.std() > 10
    if name == "report":
        broken = (
            "return [...document.images].filter(i => { i.loading = 'eager'; return i.complete && !i.naturalWidth })"
        )
        assert browser.execute_script(broken) == []
        assert len(browser.execute_script("return document.images")) >= 12


def test_it_works_from_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["report"])
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.text == "Skip to the content"
    column = "#classes table.sortable:first-of-type th:nth-child(4) button"
    browser.execute_script("document.querySelector(arguments[0]).focus()", column)
    rows = "[...document.querySelectorAll('#classes .panel:first-child tbody tr')]"
    values = f"return {rows}.map(row => +row.cells[3].dataset.sort)"
    for sign in (1, -1):
        ActionChains(browser).send_keys(Keys.ENTER).perform()
        found = browser.execute_script(values)
        assert found == sorted(found, key=lambda value: sign * value)
    regions = browser.execute_script("return [...document.querySelectorAll('.scroll')].map(e => e.tabIndex)")
    assert set(regions) == {0}
    assert browser.get_log("browser") == []


def test_each_reading_has_its_name(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["report"])
    nameless = "return [...document.querySelectorAll('svg,img')].filter(e => !(e.getAttribute('aria-label') || e.alt))"
    assert browser.execute_script(nameless) == []
    assert "ship <b>" in browser.find_element("css selector", "#classes").text
    assert json.dumps(browser.execute_script("return document.querySelectorAll('h1').length")) == "1"


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    from vpt.engine.outputs import read_predictions

    rows = run(1).predictions
    write_predictions(tmp_path, rows)
    assert read_predictions(tmp_path) == rows
