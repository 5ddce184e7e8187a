"""Mistakes with captions, from the command line: one sentence each, before a run is begun or an old one is lost."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.text_models import image_text_model
from vpt.cli import main
from vpt.model import Prompted

# A small image-text model with CLIP's own tokenizer, at random weights.
SIDES = {
    "embed_dim": 12,
    "vision_cfg": {"layers": 2, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
SMALL = {"name": "open_clip/small", "config": SIDES, "pretrained": False}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with eight captioned images, an experiment on them, and an older run in its place."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for index in range(8):
        Image.new("RGB", (16, 16), (index * 30, 0, 0)).save(f"{index}.png")
        rows.append({"image": f"{index}.png", "caption": f"red number {index}"})
    write(rows)
    config = {
        "backbone": SMALL,
        "method": {"name": "vpt-deep", "num_tokens": 2},
        "data": {"name": "captions", "path": "captions.jsonl"},
        "train": {"epochs": 1, "batch_size": 4},
    }
    Path("reds.yaml").write_text(yaml.safe_dump(config))
    older = tmp_path / "runs" / "reds"
    older.mkdir(parents=True)
    for name in ("environment.json", "result.json"):
        (older / name).write_text("{}")
    return tmp_path


def write(rows: list[dict[str, str]]) -> None:
    Path("captions.jsonl").write_text("\n".join(map(json.dumps, rows)))


def rows_of(work: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (work / "captions.jsonl").read_text().splitlines()]


def refused(work: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """What `vpt train --overwrite` says; the older run is still there."""
    assert main(["train", "reds.yaml", "--quiet", "--overwrite", *overrides]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vpt: ")
    assert len(error.splitlines()) == 1
    assert (work / "runs" / "reds" / "result.json").read_text() == "{}"
    return error


def test_images_that_are_missing_are_counted_and_the_first_five_named(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(1, 8):
        Path(f"{index}.png").unlink()
    error = refused(work, capsys)
    assert "7 of the 8 images of" in error
    assert "captions.jsonl are missing: " in error
    assert [f"{index}.png" in error for index in range(8)] == [False, *[True] * 5, False, False]
    assert error.endswith("…; put them there, or set data.root.\n")


def test_empty_captions_stop_the_run_or_are_left_out_and_counted(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(work)
    rows[2]["caption"], rows[5]["caption"] = "", " \t"
    write(rows)
    assert "2 of the 8 captions of" in refused(work, capsys)
    assert main(["train", "reds.yaml", "--quiet", "--overwrite", "data.empty=skip"]) == 0
    assert "vpt: 2 empty captions skipped, at line 3, line 6." in capsys.readouterr().err
    assert json.loads((work / "runs" / "reds" / "result.json").read_text())["data"]["empty"] == 2


def test_captions_beyond_the_context_are_cut_and_counted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(work)
    for index in (0, 3, 4):
        rows[index]["caption"] = "red " * 19
    rows[1]["caption"] = "red " * 18
    write(rows)
    assert main(["train", "reds.yaml", "--quiet", "--overwrite"]) == 0
    assert "vpt: 3 of 8 captions have more than 20 tokens and are cut." in capsys.readouterr().err
    # Learned context takes places of its own.
    assert main(["train", "reds.yaml", "--quiet", "--overwrite", "method={name: coop, num_tokens: 2}"]) == 0
    assert "vpt: 4 of 8 captions have more than 18 tokens and are cut." in capsys.readouterr().err


def test_a_loss_of_classes_that_captions_do_without_is_told(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "reds.yaml", "--quiet", "--overwrite", "method={name: kgcoop, init: a}"]) == 0
    assert (
        "vpt: the loss of kgcoop is one of classes; captions train its prompts without it." in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("backbone=vpt/vit-nano", "vpt/vit-nano has no text side for head='text' (it is an image model alone): take"),
        ("task.loss=sigmoid", "task.loss=sigmoid needs a model with a logit bias, such as SigLIP: say infonce."),
        ("method=linear", "method=linear classifies by a linear head, and captions.jsonl has captions: name another"),
        ("head=linear", "head=linear classifies by a linear head, and captions.jsonl has captions: name another one."),
        ("method=cocoop", "cocoop cannot be trained with captions (texts have no features of their own with it,"),
        ("method=clip-adapter", "clip-adapter cannot be trained with captions (what it learns belongs to classes):"),
        ("method=tip-adapter-f", "tip-adapter-f cannot be trained with captions (what it learns belongs to classes):"),
        ("method=linear-text", "linear-text cannot be trained with captions (what it learns belongs to classes): name"),
        ("method={name: coop, csc: true}", "csc=True learns a context for each class, and there are none: name the"),
        ("method={name: coop, num_tokens: 18}", "18 tokens of context leave no place for class names in the 20 of a"),
        ("data.shots=2", "data.shots=2 counts images of a class, and "),
    ],
)
def test_what_a_text_side_cannot_do(
    override: str, sentence: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(work, capsys, override)


def test_a_tokenizer_that_cannot_be_had(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.towers.test_hf_text import clip_model

    clip_model().save_pretrained(work / "no_words")
    assert main(["train", "reds.yaml", "--quiet", "--overwrite", f"backbone=hf/{work / 'no_words'}"]) == 2
    # transformers shows its own progress before.
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("vpt: the tokenizer of hf/")
    assert "no_words could not be had (its files are not there): check the network, or pass tokenizer=…" in sentence
    assert (work / "runs" / "reds" / "result.json").read_text() == "{}"


def test_a_search_among_images_needs_a_text_side_and_words(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for asked, sentence in (
        (("search", "vpt/vit-nano", "red", "."), "vpt/vit-nano has no text side for head='text'"),
        (("search", "vpt/clip-nano", " ", "."), "1 of 1 texts are empty, first number 1: give words."),
        (("search", "vpt/clip-nano", "red", "nowhere"), "there is no image 'nowhere'"),
        (("predict", "vpt/clip-nano", "0.png"), "no classes to choose from: name them with --labels"),
        (("predict", "vpt/clip-nano", "0.png", "--labels", "red", ""), "1 of 2 texts are empty, first number 2"),
        (("predict", "vpt/clip-nano", "0.png", "--templates", "a {}"), "give those too"),
        (
            ("predict", "vpt/clip-nano", "0.png", "--labels", "red", "--templates", "a"),
            "must hold one {} for the class",
        ),
    ):
        assert main(asked) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1


def test_in_python_too_nothing_is_lost(work: Path) -> None:
    import vpt

    data = vpt.data.load("captions", path="captions.jsonl")
    model: Prompted = vpt.attach(image_text_model(), "cocoop", head="text")
    with pytest.raises(vpt.VptError, match="cocoop cannot be trained with captions"):
        vpt.fit(model, data.train, run_dir="runs/reds", overwrite=True, progress=False)
    with pytest.raises(vpt.VptError, match="captions need a model with a text side"):
        vpt.fit(vpt.attach(image_text_model(), "linear", num_classes=2), data.train, progress=False)
    assert (work / "runs" / "reds" / "result.json").read_text() == "{}"
