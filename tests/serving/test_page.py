"""The page of the service in a real browser: by mouse, by keyboard, on a phone, with a token, and when something fails.

With VPT_SCREENSHOTS=FOLDER pictures of what was seen are kept there.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.serving.services import picture, running, small_bank

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver is installed"),
]
TOKEN = "a-token-that-nobody-guesses"
PHONE = {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0}, "userAgent": "Mozilla/5.0 (Linux; Android)"}


def browser_of(*, phone: bool = False, dark: bool = False) -> Any:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    sandbox = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--window-size=1000,1100", *sandbox):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        options.add_experimental_option("mobileEmulation", PHONE)
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    if dark:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    return browser


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> vpt.PromptBank:
    return small_bank(tmp_path_factory.mktemp("bank"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "digit.png").write_bytes(picture(200, 150))
    return tmp_path / "digit.png"


@pytest.fixture
def browsers() -> Iterator[Any]:
    """To open browsers, which are quit at the end."""
    opened: list[Any] = []

    def opening(**how: Any) -> Any:
        opened.append(browser_of(**how))
        return opened[-1]

    yield opening
    for browser in opened:
        browser.quit()


def until(browser: Any, true: Any) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 60).until(true)


def css(browser: Any, selector: str) -> list[Any]:
    from selenium.webdriver.common.by import By

    return browser.find_elements(By.CSS_SELECTOR, selector)


def photographed(browser: Any, name: str) -> None:
    folder = os.environ.get("VPT_SCREENSHOTS")
    if folder:
        height = browser.execute_script("return document.documentElement.scrollHeight")
        width = browser.execute_script("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        import base64

        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def overflows(browser: Any) -> bool:
    return browser.execute_script("return document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "phone"])
def test_an_image_is_chosen_and_seen_with_labels_scores_and_where_it_looked(
    bank: vpt.PromptBank, image: Path, browsers: Any, how: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    browser = browsers(**how)
    with running(bank) as server:
        browser.get(server.url)
        boxes = until(browser, lambda b: css(b, "input[name=task]"))
        assert [box.get_attribute("value") for box in boxes] == ["digits", "pets"]
        photographed(browser, f"{name}-begin")
        assert not css(browser, "#go")[0].is_enabled()
        css(browser, "#file")[0].send_keys(str(image))
        boxes[1].click()
        css(browser, "#go")[0].click()
        until(browser, lambda b: len(css(b, "canvas[data-drawn]")) == 2)
        titles = [heading.text for heading in css(browser, "article h2")]
        assert titles == ["digits", "pets"]
        scores = [[row.text for row in css(card, ".scores li")] for card in css(browser, "article")]
        assert [len(rows) for rows in scores] == [3, 2]
        assert all("%" in row for rows in scores for row in rows)
        # What is drawn is no plain surface.
        pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        drawn = f"const c = arguments[0]; return new Set({pixels}).size"
        assert browser.execute_script(drawn, css(browser, "canvas")[0]) > 50
        assert "digits:" in css(browser, "#said")[0].text
        photographed(browser, f"{name}-answer")
        assert not overflows(browser)
        assert complaints(browser) == []
        loaded = "performance.getEntriesByType('resource').map(e => new URL(e.name).origin)"
        origin = browser.execute_script(f"return {loaded}")
        assert {each for each in origin if each != "null"} == {server.url}


def test_all_of_it_is_reached_by_keyboard(bank: vpt.PromptBank, image: Path, browsers: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = browsers()
    with running(bank) as server:
        browser.get(server.url)
        until(browser, lambda b: css(b, "input[name=task]"))
        css(browser, "#file")[0].send_keys(str(image))
        reached = []
        for _ in range(8):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            active = browser.switch_to.active_element
            reached.append(active.get_attribute("id") or active.get_attribute("value") or active.tag_name)
            if reached[-1] == "pets":
                ActionChains(browser).send_keys(Keys.SPACE).perform()
            if reached[-1] == "go":
                outline = browser.execute_script("return getComputedStyle(arguments[0]).outlineWidth", active)
                assert outline == "3px"
                ActionChains(browser).send_keys(Keys.ENTER).perform()
                break
        assert reached[-4:] == ["file", "digits", "pets", "go"]
        until(browser, lambda b: len(css(b, "article")) == 2)
        assert browser.switch_to.active_element.get_attribute("id") == "results"
        assert css(browser, "#said")[0].get_attribute("aria-live") == "polite"


def test_a_token_is_asked_for_and_a_mistake_is_told(
    bank: vpt.PromptBank, tmp_path: Path, image: Path, browsers: Any
) -> None:
    browser = browsers()
    with running(bank, token=TOKEN) as server:
        browser.get(server.url)
        until(browser, lambda b: css(b, "#access")[0].is_displayed())
        css(browser, "#token")[0].send_keys("wrong")
        css(browser, "#access button")[0].click()
        until(browser, lambda b: "say the token" in css(b, "#said")[0].text)
        photographed(browser, "token")
        css(browser, "#token")[0].clear()
        css(browser, "#token")[0].send_keys(TOKEN)
        css(browser, "#access button")[0].click()
        until(browser, lambda b: css(b, "input[name=task]"))
        assert not css(browser, "#access")[0].is_displayed()
        (tmp_path / "broken.png").write_bytes(b"no image")
        css(browser, "#file")[0].send_keys(str(tmp_path / "broken.png"))
        css(browser, "#go")[0].click()
        until(browser, lambda b: "no image that can be read" in css(b, "#said")[0].text)
        photographed(browser, "mistake")
        css(browser, "#file")[0].send_keys(str(image))
        css(browser, "#go")[0].click()
        until(browser, lambda b: css(b, "canvas[data-drawn]"))


def test_names_are_shown_as_they_are_and_never_run(tmp_path: Path, image: Path, browsers: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    vpt.create("vpt/vit-nano", "linear", classes=[evil, "b" * 200]).save_pretrained(tmp_path / "evil")
    bank = vpt.PromptBank("vpt/vit-nano", device="cpu")
    bank.add(evil, tmp_path / "evil")
    browser = browsers(phone=True)
    with running(bank) as server:
        browser.get(server.url)
        until(browser, lambda b: css(b, "input[name=task]"))
        css(browser, "#file")[0].send_keys(str(image))
        css(browser, "#go")[0].click()
        until(browser, lambda b: css(b, "canvas[data-drawn]"))
        assert css(browser, "article h2")[0].text == evil
        assert evil in css(browser, "article")[0].text
        assert not css(browser, "article img")
        assert not overflows(browser)
        photographed(browser, "odd-names")


def test_images_are_searched_by_words(tmp_path: Path, browsers: Any) -> None:
    from vpt.serving.gallery import Gallery

    (tmp_path / "photos").mkdir()
    for seed in range(3):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(picture(seed=seed))
    vpt.create("vpt/clip-nano", "zero-shot", classes=["a dog", "a car"]).save_pretrained(tmp_path / "things")
    bank = vpt.PromptBank.open(tmp_path / "things", device="cpu")
    browser = browsers()
    with running(bank, gallery=Gallery(bank, tmp_path / "photos"), token=TOKEN) as server:
        browser.get(server.url)
        browser.execute_script(f"sessionStorage.setItem('token', '{TOKEN}')")
        browser.refresh()
        until(browser, lambda b: css(b, "#gallery")[0].is_displayed())
        css(browser, "#words")[0].send_keys("a dog on a beach\n")
        until(browser, lambda b: len(css(b, "#hits li")) == 3)
        whole = "return [...document.querySelectorAll('#hits img')].every(i => i.complete && i.naturalWidth)"
        until(browser, lambda b: b.execute_script(whole))
        photographed(browser, "search")
