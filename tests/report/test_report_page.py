"""Pages stand alone, escape what they are given, and show what a run came to."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import vpt
from tests.finished import finished
from tests.zoo import vit
from vpt import VptError, reporting
from vpt.cli import main
from vpt.engine.record import FitResult
from vpt.report import charts
from vpt.report.comparison import comparison
from vpt.report.intervals import Measured, with_intervals
from vpt.report.notebook import confusion_figure
from vpt.report.page import Panel, Section, confusion, data_uri, page, table
from vpt.report.tables import result_rows

HOSTILE = '<script>alert("x")</script>&'


def assert_stands_alone(text: str) -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "@import" not in text


def test_names_are_escaped_and_nothing_is_loaded() -> None:
    panel = Panel(
        HOSTILE,
        charts=[{"svg": charts.curves({HOSTILE: [(1, 0.5), (2, 0.7)]}, "epoch", "top-1"), "caption": HOSTILE}],
        matrix=confusion([[3, 1], [0, 4]], [HOSTILE, "dog"]),
        tables=[table([{"class": HOSTILE, "recall": 0.25}], HOSTILE, sortable=True, bars=["recall"])],
        texts=[{"title": HOSTILE, "text": HOSTILE, "open": True}],
        notes=[HOSTILE],
    )
    text = page(HOSTILE, [Section("one", HOSTILE, [panel], HOSTILE)], kind="Report")
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") > 8
    assert_stands_alone(text)


def test_a_table_is_sorted_by_its_values_and_not_by_how_they_are_shown() -> None:
    found = table([{"class": "a", "images": 1200, "recall": 0.5}], "classes", bars=["recall"])
    cells = found["rows"][0]
    assert [cell["text"] for cell in cells] == ["a", "1,200", "50.0%"]
    assert [cell["sort"] for cell in cells] == [None, 1200, 0.5]
    assert [cell["number"] for cell in cells] == [False, True, True]


def test_ticks_are_round_and_curves_leave_out_what_is_not_finite() -> None:
    drawn = charts.curves({"loss": [(1, 2.0), (2, float("nan")), (3, 1.0)]}, "epoch", "loss")
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn
    assert charts.curves({"loss": [(1, float("nan"))]}, "epoch", "loss") == ""


def test_small_pictures_are_enlarged_and_large_ones_made_smaller() -> None:
    for size in ((8, 8), (900, 300)):
        assert data_uri(Image.new("RGB", size)).startswith("data:image/webp;base64,")


def test_the_page_of_a_comparison_says_which_rows_are_told_apart() -> None:
    results = {
        "linear": [finished(test={"top1": 0.90}, tuned_parameters=1000, data=_data())],
        "deep": [finished(test={"top1": 0.91}, tuned_parameters=20_000, data=_data())],
        "poor": [finished(test={"top1": 0.30}, tuned_parameters=5, data=_data())],
    }
    measured = {label: Measured(runs[0]["test"]["top1"], 300) for label, runs in results.items()}
    text = comparison("mine", with_intervals(result_rows(results), measured), results, measured, "test")
    assert "not told apart from it: linear" in text
    assert "+60.0" in text
    assert_stands_alone(text)


def _data() -> dict[str, object]:
    return {"name": "digits", "sizes": {"test": 300}, "digests": {}}


def test_a_model_and_a_run_show_themselves_in_a_notebook() -> None:
    model = vpt.attach(vit(), "vpt-deep", num_tokens=2, classes=["a", "<b>"])
    said = model._repr_html_()
    assert "vpt-deep" in said
    assert "&lt;b&gt;" in said
    history = [{"epoch": n, "train/loss": 1 / n, "val/loss": 1 / n, "val/top1": 0.5} for n in (1, 2)]
    run = FitResult(history, 2, {"val/top1": 0.5}, 3.0, False)._repr_html_()
    assert run.count("<svg") == 2
    assert "50.00%" in run
    assert "&lt;b&gt;" in confusion_figure([[1, 0], [2, 3]], model.classes)._repr_html_()


def test_what_is_no_finished_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="no run directory"):
        reporting.report([tmp_path], tmp_path / "page.html")
    with pytest.raises(VptError, match=r"end in \.html"):
        reporting.report([tmp_path], tmp_path / "page.pdf")
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(VptError, match="is there already"):
        reporting.report([tmp_path], tmp_path / "page.html")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs on scanned digits."""
    work = tmp_path_factory.mktemp("runs")
    for name, method in (("shallow", "vpt-shallow"), ("linear", "linear")):
        out = f"out={work / name}"
        assert main(["train", "quickstart", out, f"method={method}", "train.epochs=1", "data.shots=4", "--quiet"]) == 0
    return work


@pytest.mark.slow
def test_a_run_keeps_what_it_said_and_its_page_shows_it(runs: Path) -> None:
    result = json.loads((runs / "shallow/result.json").read_text())
    rows = (runs / "shallow/predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + result["data"]["sizes"]["val"] + result["data"]["sizes"]["test"]
    assert {"temperature", "val", "test"} <= result["trust"].keys()
    assert result["trust"]["test"]["ece"] == pytest.approx(result["test"]["ece"], abs=1e-5)
    assert main(["report", str(runs / "shallow"), "--out", str(runs / "one.html")]) == 0
    text = (runs / "one.html").read_text()
    assert_stands_alone(text)
    for title in ("Curves", "What is taken for what", "Class by class", "Most confident mistakes", "Where it looks"):
        assert title in text
    assert "prompts to patches, rollout" in text


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains nothing, and one of the same pictures that trains."""
    work = tmp_path_factory.mktemp("frozen")
    for label, shade in (("dark", 20), ("light", 200)):
        (work / "photos" / label).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (24, 24), (shade + number, shade, shade)).save(work / "photos" / label / f"{number}.png")
    (work / "mine.yaml").write_text(
        f"backbone: vpt/clip-nano\nmethod: zero-shot\n"
        f"data: {{name: folder, path: {work / 'photos'}, val_fraction: 0.25, test_fraction: 0.25}}\n"
    )
    for method, more in (("zero-shot", []), ("gda", []), ("coop", ["train.epochs=1"])):
        out = f"out={work / method}"
        assert main(["train", str(work / "mine.yaml"), out, f"method={method}", *more, "--quiet"]) == 0
    return work


@pytest.mark.parametrize("method", ["zero-shot", "gda"])
def test_a_run_that_trains_nothing_has_a_page_without_curves(method: str, frozen: Path) -> None:
    assert main(["report", str(frozen / method), "--out", str(frozen / f"{method}.html")]) == 0
    text = (frozen / f"{method}.html").read_text()
    assert "nothing is trained" in text
    assert "Curves" not in text
    assert "Class by class" in text


def test_the_page_of_one_run_lies_in_it_and_that_of_several_where_it_is_asked_for(
    frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zero, gda = (str(frozen / method) for method in ("zero-shot", "gda"))
    assert main(["report", zero]) == 0
    assert main(["report", gda, gda]) == 0
    assert not list(tmp_path.iterdir())
    assert main(["report", zero, gda]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert main(["report", zero]) == 2
    assert "zero-shot" in (frozen / "zero-shot/report.html").read_text()
    # What lies in a run and is not the run's own stays when it is made anew.
    config = [str(frozen / "mine.yaml"), f"out={zero}", "--overwrite", "--quiet"]
    assert main(["train", *config]) == 0
    assert (frozen / "zero-shot/report.html").is_file()


def test_a_run_that_trains_nothing_stands_at_epoch_0_beside_one_that_trains(frozen: Path) -> None:
    names = [str(frozen / method) for method in ("zero-shot", "coop")]
    assert main(["report", *names, "--out", str(frozen / "both.html")]) == 0
    text = (frozen / "both.html").read_text()
    assert "Curves" in text
    assert re.search(r"zero-shot: [^<]* at 0</title>", text)
    assert re.search(r"coop: [^<]* at 1</title>", text)


@pytest.mark.slow
def test_unknown_images_and_the_line_are_kept_with_the_run(runs: Path, tmp_path: Path) -> None:
    for number in range(12):
        Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / f"{number}.png")
    assert main(["eval", str(runs / "linear"), "--unknown", str(tmp_path)]) == 0
    assert main(["eval", str(runs / "linear"), "--line", "--shift", "noise"]) == 0
    trust = json.loads((runs / "linear/result.json").read_text())["trust"]
    assert trust["unknown"]["unknown"] == 12
    assert trust["line"]["of"] == "features"
    points = trust["line"]["points"]
    assert list(points) == ["test", "noise"]
    # The features of a linear probe are the frozen ones all along.
    assert len({row["top1"] for row in points["test"]}) == 1
