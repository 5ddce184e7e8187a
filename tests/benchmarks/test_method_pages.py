"""The pages of methods say what the code is; the pictures are the project's own."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

import vpt
from benchmarks.pages import accuracy, methods
from benchmarks.pages.__main__ import made
from benchmarks.pages.drawing import COLOURS
from benchmarks.pages.facts import ROOT, arguments_of, facts
from benchmarks.pages.notes import NOTES
from tests.methods.test_parameter_counts import CLIP_COUNTS, COUNTS, VIT_B
from tests.parity.test_text_methods import CLASSES, clip, images
from vpt.methods import available
from vpt.methods.parts.taught import Student
from vpt.options import options_of

DOCS = ROOT / "docs"
NAMES = sorted(available())


def written(name: str) -> str:
    return (DOCS / "methods" / f"{facts(name).page}.md").read_text(encoding="utf-8")


def test_every_method_has_its_notes_and_a_row_in_both_tables() -> None:
    assert list(NOTES) == NAMES, "give it its lines in benchmarks/pages/notes.py, and run python -m benchmarks.pages"
    for path in (ROOT / "README.md", DOCS / "methods.md"):
        found = re.findall(r"^\| \[`(\S+?)`\]\((\S+)\)", path.read_text(encoding="utf-8"), re.M)
        assert sorted(name for name, _ in found) == NAMES
        assert all((path.parent / link).is_file() for _, link in found)


def test_there_are_no_pages_of_other_methods() -> None:
    wanted = {f"{facts(name).page}.{suffix}" for name in NAMES for suffix in ("md", "svg")}
    assert {path.name for path in (DOCS / "methods").iterdir()} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_docstring_the_options_the_notes_and_the_paper_s_configs(name: str) -> None:
    own, page = facts(name), written(name)
    assert set(arguments_of(own.kind.__doc__ or "")) >= set(options_of(own.kind))
    for part in (own.idea, methods._options(own), methods._papers(own), methods.trial(own)):
        assert part in page
    assert "**When to take it**" in page
    assert "**When it fails**" in page


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, count) for name, options, backbone, count in COUNTS if not options and backbone == VIT_B),
        *(
            (name, count)
            for name, options, backbone, count in CLIP_COUNTS
            if not options and backbone == "ViT-B-16" and not NOTES[name].more
        ),
    ],
)
def test_tuned_numbers_on_a_page_are_those_that_are_tested(name: str, count: int) -> None:
    title = "ViT-B/16, beside the head" if available()[name].head == "linear" else "CLIP ViT-B/16, class names"
    (said,) = re.findall(rf"^\| tuned on {title} \| (.*) \|$", written(name), re.M)
    numbers = [int(each.replace(",", "")) for each in re.findall(r"[\d,]+", said)]
    # The table of counts has four classes.
    assert sum(each * (4 if f"{each:,} a class" in said else 1) for each in numbers) == count


@pytest.mark.parametrize("name", [name for name in NAMES if " a " in (NOTES[name].more or "")])
def test_what_grows_with_the_data_grows_as_the_page_says(name: str) -> None:
    model = vpt.attach(clip(), name, classes=CLASSES).double().train()
    labels = torch.tensor([0, 1, 2, 0, 1, 2][: len(CLASSES) * 2])
    model.prepare(images(batch=len(labels)), labels)
    each, _, what = NOTES[name].more.partition(" a ")
    wide = int(each) - 512 + model.tower.num_features
    assert model.num_tuned() == wide * (len(CLASSES) if what == "class" else len(labels))


def test_the_network_of_a_student_is_as_large_as_its_page_says() -> None:
    student = Student(512, "promptkd")
    student.teach(torch.zeros(3, 768))
    count = sum(parameter.numel() for parameter in student.parameters())
    assert NOTES["promptkd"].more == f"{count:,} with ViT-L/14 as teacher"


PICTURES = [*sorted((DOCS / "methods").glob("*.svg")), DOCS / "images" / "accuracy.svg"]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_one_and_has_a_dark_side(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme:dark" in text
    assert len(text) < 8_000
    used = set(re.findall(r'class="(?:l-)?(\w+)"', text))
    assert "ground" in used <= set(COLOURS)


def test_the_chart_is_that_of_the_table() -> None:
    assert [row.name for row in accuracy.rows()] == ["linear", "vpt-shallow", "vpt-deep", "bias", "full"]
    assert (DOCS / "images" / "accuracy.svg").read_text(encoding="utf-8") == accuracy.chart()


@pytest.mark.parametrize(("name", "what"), [("norm", "norms"), ("bias", "biases"), ("full", "all weights")])
def test_what_is_trained_of_the_backbone_is_drawn(name: str, what: str) -> None:
    assert f"- {what[0].upper()}{what[1:]} of blocks 1 to 12 of the image encoder" in written(name)
    blocks = ET.parse(DOCS / "methods" / f"{name}.svg").iter("{http://www.w3.org/2000/svg}path")
    assert any(path.get("class") == "learned" and (path.get("d") or "").count("z") == 12 for path in blocks)


def test_figures_of_speed_in_the_readme_are_those_of_the_page() -> None:
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/performance.md"))
    said = re.search(r"^A training step with.*\n.*$", readme, re.M)
    assert said is not None
    step, plain, texts, captured, on_a_gpu = re.findall(r"\d+(?:\.\d+)?(?= times)", said.group())
    assert re.search(rf"^\| ViT-B/16 \| 100 \| {step} \([^|]*\| {plain} \(", page, re.M)
    found = re.search(r"^\| coop \| 100 \| 16 \| [^|]* \| ([0-9.]+) \(", page, re.M)
    assert found is not None
    assert f"{float(found.group(1)):.1f}" == texts
    times = re.search(r"coop, 100 classes: plain, eager over fast, captured \| ([0-9.]+) ", page)
    assert times is not None
    assert f"{float(times.group(1)):.0f}" == on_a_gpu
    rows = (rf"^\| coop, 100 classes \| {form} \| captured \| ([0-9.]+) " for form in ("plain", "fast"))
    whole, cut = (float(ms) for row in rows for ms in re.findall(row, page, re.M))
    assert f"{whole / cut:.1f}" == captured


@pytest.mark.parametrize("name", ["vpt-shallow", "2sfs"])
def test_a_page_is_made_by_the_command(name: str) -> None:
    for file, text in methods.files(facts(name)).items():
        assert (DOCS / "methods" / file).read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_all_pages_are_made_by_the_command() -> None:
    for path, text in made():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m benchmarks.pages"
