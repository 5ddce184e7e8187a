"""`python -m benchmarks`: it runs, and writes figures that tell where they are from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.methods import CONFIG
from vpt.methods import available, called


@pytest.fixture(autouse=True)
def _threads() -> None:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_quick_run_writes_its_figures_with_command_and_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "--quick", "--repeats", "1", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    about, rows = written["about"], written["parts"]["image"]
    assert about["command"].startswith("python -m benchmarks")
    assert {"machine", "cores", "started", "clock", "versions", "setting"} <= about.keys()
    assert about["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [(row["facts"]["method"], row["facts"]["prompts"]) for row in rows] == [
        (method, prompts) for method in ("vpt-shallow", "vpt-deep") for prompts in (1, 10)
    ]
    for row in rows:
        assert all(value["low"] <= value["median"] <= value["high"] for value in row["ratios"].values())
        assert row["items_per_second"]["step"] == pytest.approx(row["items"] / row["seconds"]["step"]["median"])
        assert row["saved_bytes"].keys() == {"step", "plain step"}
        assert row["flops"].keys() == row["seconds"].keys()
    table = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert about["command"] in table
    assert about["machine"] in table
    assert table in capsys.readouterr().out
    assert (tmp_path / "image.png").stat().st_size > 1000


def test_a_quick_run_of_text_methods_writes_tables_and_a_plot(tmp_path: Path) -> None:
    assert main(["text", "--quick", "--repeats", "1", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["text"]
    assert [(row["facts"]["method"], row["facts"]["classes"]) for row in rows] == [
        ("coop", 3),
        ("coop", 5),
        ("maple", 5),
        ("ivlp", 5),
        ("cocoop", 5),
    ]
    assert ["plain step / step" in row["ratios"] for row in rows] == [True, True, True, True, False]
    assert {"one at a time / step of 1", "one at a time / step of 2"} <= rows[-1]["ratios"].keys()
    assert (tmp_path / "text.png").stat().st_size > 1000


def test_a_family_stands_beside_the_plain_vision_transformer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--family", "eva-02", "--family", "swin", "--prompts", "4", "--quick", "--repeats", "1"]
    assert main(["families", *wanted, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["families"]
    assert [(row["facts"]["family"], row["facts"]["method"]) for row in rows] == [
        ("eva-02", "vpt-deep"),
        ("swin", "vpt-deep"),
    ]
    assert all(row["ratios"]["saved bytes: step / plain step"]["median"] < 1 for row in rows)
    assert main(["families", "--family", "resnet"]) == 2
    assert "--family resnet is measured nowhere: there are vit, eva-02, dinov3" in capsys.readouterr().err
    assert main(["text", "--family", "beit"]) == 2
    assert "these parts have no families: name the part families" in capsys.readouterr().err


def test_methods_and_numbers_of_classes_narrow_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--method", "ivlp", "--classes", "2", "--quick", "--repeats", "1", "--out", str(tmp_path)]
    assert main(["text", *wanted]) == 0
    rows = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["text"]
    assert [(row["facts"]["method"], row["facts"]["classes"]) for row in rows] == [("ivlp", 2)]
    assert main(["image", "--method", "coop"]) == 2
    assert "--method coop is measured nowhere: those of these parts are vpt-deep" in capsys.readouterr().err
    assert main(["text", "--classes", "1001"]) == 2
    assert "--classes is from 1 to 1000" in capsys.readouterr().err


def test_what_says_something_new_on_a_gpu_is_measured_first() -> None:
    from benchmarks.gpu import METHODS, jobs

    found = [job.method for job in jobs([], [], [], compiled=True)]
    assert set(found[: len(METHODS)]) == set(METHODS)
    assert [job.what for job in jobs(["coop"], [], [1000], compiled=True)] == ["coop, 1000 classes"]
    assert [job.what for job in jobs(["vpt-deep"], [10], [], compiled=False)] == ["vpt-deep 10"]


@pytest.mark.slow
def test_methods_of_the_image_side_are_held_against_the_frozen_model(tmp_path: Path) -> None:
    rows = ["--method", "ssf", "--method", "vpt-deep and lora"]
    assert main(["methods", *rows, "--quick", "--repeats", "1", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["methods"]
    assert [row["facts"]["method"] for row in found] == ["ssf", "vpt-deep and lora"]
    assert all({"step / limit", "evaluation / frozen"} <= row["ratios"].keys() for row in found)


def test_every_method_that_takes_a_linear_head_is_measured_beside_the_others() -> None:
    measured = {name for row in CONFIG.compare.values() for name in named(row["method"])}
    wanted = {name for name, kind in available().items() if "linear" in kind.heads}
    assert measured == wanted


def named(method: Any) -> list[str]:
    return called(method)[0].split("+") if isinstance(method, list) else [called(method)[0]]


def test_a_quick_run_of_the_switches_holds_each_against_a_step_without(tmp_path: Path) -> None:
    assert main(["switches", "--quick", "--repeats", "1", "--out", str(tmp_path)]) == 0
    image, text = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["switches"]
    for switch in ("compile", "recompute: mlp", "recompute: block", "precision: bf16", "dtype: bf16"):
        assert image["ratios"][f"time: {switch}"]["median"] > 0
    saved = image["saved_bytes"]
    assert saved["recompute: block"] < saved["recompute: mlp"] < saved["no switch"]
    assert saved["dtype: bf16"] < 0.6 * saved["no switch"]
    assert text["saved_bytes"]["text_chunk: 100"] < text["saved_bytes"]["no switch"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["images"])
    assert "input_pipeline" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cuda"]) == 2
    assert "say --device cpu" in capsys.readouterr().err
