"""What a new user types in the first hour, and what answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vpt
from vpt import sweep
from vpt.cli import main
from vpt.config import Config
from vpt.methods import available
from vpt.options import options_of
from vpt.saving import versions
from vpt.shipped import find_config, purpose, shipped
from vpt.source import class_fields, function_fields, names_in_package


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with photos of two classes and a model that tells them apart somehow."""
    monkeypatch.chdir(tmp_path)
    for label, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (20, 20), tuple(min(255, c + 9 * index) for c in colour)).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    vpt.create("vpt/vit-nano", "linear", classes=["blue", "red"]).save_pretrained("model")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(arguments) == code
    return tuple(capsys.readouterr())


def test_nothing_is_answered_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert "train one experiment" in said(capsys)[0]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"vpt {vpt.__version__}\n"
    assert versions()["vpt"] == vpt.__version__


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["trian"], "there is no command 'trian': did you mean 'train'?"),
        (["train"], "the following arguments are required: CONFIG"),
        (["train", "own_image"], "did you mean 'own_images'?"),
        (["train", "few_shot"], "several configs are named 'few_shot': say one of"),
        (["train", "own_images", "trian.epochs=3"], "did you mean 'train'?"),
        (["train", "own_images", "train.epoch=3"], "did you mean 'epochs'?"),
        (["train", "own_images", "method=lnear"], "there is no method 'lnear': did you mean 'linear'?"),
        (["train", "own_images", "--over"], "'--over' is no option or argument of train"),
        (["list", "methods", "xyz"], "see `vpt list methods`"),
        (["configs", "xyz"], "see `vpt configs`"),
        (["predict", "model", "photos", "--top", "0"], "'0' is no whole number above 0"),
        (["predict", "model", "photos", "--device", "gpu"], "there is no device 'gpu': say cpu"),
        (["predict", "model", "photos", "--device", "cuda:99"], "there is no device 'cuda:99' here"),
    ],
)
def test_a_slip_is_answered_in_one_line(
    typed: list[str], sentence: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, error = said(capsys, *typed, code=2)
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_methods_and_their_options_are_known_without_what_they_need() -> None:
    assert sorted(names_in_package("vpt.methods")) == sorted(available())
    for name, kind in available().items():
        real = {option: hint for option, (hint, _) in options_of(kind).items()}
        assert {option: hint for option, (hint, _) in class_fields("vpt.methods", name).items()} == real, name


def test_options_of_training_and_data_are_known_without_torch() -> None:
    for module, function in (("vpt.engine.fit", vpt.fit), ("vpt.data", vpt.data.load)):
        real = options_of(function)
        read = function_fields(module, function.__name__)
        assert read.keys() == real.keys()
        # What is not told by the text alone is left for later.
        told = {name: hint for name, (hint, _) in read.items() if hint is not Any}
        assert told == {name: real[name][0] for name in told}
        assert len(told) > 0.7 * len(real)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.epochs=x", "train.epochs='x' will not do: input should be a valid integer"),
        ("train.schedule=cosin", "train.schedule='cosin' will not do: input should be 'cosine'"),
        ("train.compile=2", "train.compile=2 will not do: input should be true or false"),
        ("data.cache=dsk", "data.cache='dsk' will not do: input should be 'none', 'memory' or 'disk'"),
        ("method={name: vpt-deep, num_tokns: 3}", "did you mean 'num_tokens'?"),
        ("method={name: lora, rank: many}", "method.rank='many' will not do"),
        ("compare.prompts.train.lr=fast", "train.lr='fast' will not do"),
        ("compare.prompts.method=vpt-depp", "there is no method 'vpt-depp': did you mean 'vpt-deep'?"),
        ("select={train.lr: [0.1, high]}", "train.lr='high' will not do"),
    ],
)
def test_a_mistyped_config_is_told_before_torch_is_imported(change: str, sentence: str) -> None:
    code = (
        "import sys\nfrom vpt.cli import main\n"
        f"code = main(['compare', 'own_images', 'data.path=photos', {change!r}])\n"
        "assert code == 2 and 'torch' not in sys.modules, sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert sentence in done.stderr
    assert done.returncode == 0, done.stderr


def test_configs_are_found_by_name(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_config("own_images")
    assert find_config("configs/own_images.yaml") == find_config("own_images.yaml") == found
    assert find_config("coop/few_shot") == shipped()["paper/coop/few_shot"]
    listed = said(capsys, "configs")[0]
    assert "vpt compare own_images" in listed
    assert "vpt base-to-new paper/coop/base_to_new" in listed
    assert said(capsys, "configs", "own_images")[0] == found.read_text(encoding="utf-8")
    (work / "own_images").write_text("a file of one's own comes first")
    assert find_config("own_images") == Path("own_images")


def test_every_config_says_what_it_is_for() -> None:
    for path in shipped().values():
        assert 20 < len(purpose(path)) < 400, path


def test_a_broken_image_is_named_and_the_others_are_predicted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "photos/red/3.png").write_bytes(b"nonsense")
    out, error = said(capsys, "predict", "model", "photos", "--json", "--top", "1", code=1)
    assert len(out.splitlines()) == 15
    assert "photos/red/3.png is no image that can be read" in error
    assert "1 image could not be decoded" in error


@pytest.mark.parametrize("workers", ["0", "2"])
def test_predictions_are_those_of_the_model_in_the_order_of_the_files(
    workers: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "model", "photos", "--csv", "all.csv", "--all-scores", "--workers", workers]) == 0
    head, *rows = [line.split(",") for line in (work / "all.csv").read_text().splitlines()]
    assert head == ["image", "label", "score", "blue", "red"]
    assert [row[0] for row in rows] == [f"photos/{c}/{i}.png" for c in ("blue", "red") for i in range(8)]
    expected = vpt.load("model").predict([row[0] for row in rows])
    for row, prediction in zip(rows, expected, strict=True):
        assert row[1] == prediction.label
        assert [float(cell) for cell in row[3:]] == pytest.approx([prediction.scores[c] for c in ("blue", "red")])


def test_an_output_is_never_an_input(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = work / "photos/red/0.png"
    before = image.read_bytes()
    sentence = "is one of the images that are read: name another file to write"
    for command in (["predict", "model", "photos", "--csv"], ["attention", "vpt/clip-nano", str(image), "--out"]):
        assert sentence in said(capsys, *command, str(image), "--overwrite", code=2)[1]
    assert image.read_bytes() == before
    (work / "all.csv").write_text("a thesis")
    assert "is there already" in said(capsys, "predict", "model", "photos", "--csv", "all.csv", code=2)[1]
    assert (work / "all.csv").read_text() == "a thesis"


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "nothing", "photos", "--csv", "file/a.csv"],
        ["attention", "nothing", "photos", "--out", "file/a.png"],
        ["classes", "nothing", "a", "b", "--out", "file/a"],
        ["export", "nothing", "file/a.pt2"],
        ["report", "nothing", "--out", "file/a.html"],
    ],
    ids=lambda command: command[0],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_loaded(
    command: list[str], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "file").write_text("a thesis")
    assert "cannot be written (file is a file): name a place below a folder" in said(capsys, *command, code=2)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_that_a_terminal_would_act_on_are_harmless(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[red]x.png", "\x1b[31mred.png", "a|b.png", os.fsdecode(b"\xff.png"), "AC[bold].png"]
    for name in names:
        shutil.copy(work / "photos/red/0.png", work / name)
    out, _ = said(capsys, "predict", "model", *names)
    assert "\x1b" not in out
    for shown in ("[red]x.png", "\\x1b[31mred.png", "a|b.png", "\\udcff.png", "AC[bold].png"):
        assert shown in out
    assert main(["predict", "model", *names, "--csv", "out.csv"]) == 0
    assert b"\n\xff.png," in (work / "out.csv").read_bytes()


def test_a_pipe_that_closes_is_no_error(work: Path) -> None:
    command = f"{sys.executable} -m vpt list backbones | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_a_name_that_the_stream_cannot_hold_ends_nothing(work: Path) -> None:
    (work / "photos/red").rename(work / "photos/rød 写真")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "vpt", "predict", "model", "photos", "--json", "--top", "1"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"photos/r\\xf8d \\u5199\\u771f/0.png" in done.stdout


def test_what_nobody_foresaw_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("vpt.use.predict", broken)
    monkeypatch.delenv("VPT_TRACEBACK")
    _, error = said(capsys, "predict", "model", "photos", code=1)
    assert "is a fault of vpt or of a library: RuntimeError: first line (test_first_hour.py, line" in error
    assert len(error.splitlines()) == 1


def test_one_command_says_what_is_best_for_own_images(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def trained(run: Config, *, test: bool, **_: object) -> tuple[None, dict[str, object]]:
        ran.append(f"{run.method['name']} {run.out}")
        result = {"val": {"top1": 0.5}, "test": {"top1": 0.9 if run.method["name"] == "full" else 0.4} if test else {}}
        facts = {"tuned_parameters": 1, "share": 0.1, "seconds": 1.0, "bytes": 1}
        data = {"name": "photos", "sizes": {"test": 50}}
        return None, result | facts | {"data": data, "backbone": "vpt/vit-nano"}

    monkeypatch.setattr(sweep.experiment, "train", trained)
    out, _ = said(capsys, "compare", "own_images", "data.path=photos")
    assert len(ran) == 4 * (3 + 3) + 3
    assert "best on test images: full tuning\n" in out
    table = (work / "runs/own_images/table.md").read_text()
    assert "| full tuning | 50.00 ± 0.00 | 90.00 ± 0.00 | 78.6 – 95.7 | best |" in table
    assert "| linear probe | 50.00 ± 0.00 | 40.00 ± 0.00 | 27.6 – 53.8 | lower, not paired |" in table
    assert json.loads((work / "runs/own_images/selection.json").read_text())["prompts"]["seeds"] == [1]
