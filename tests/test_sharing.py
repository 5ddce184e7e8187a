"""What is shared on the hub, and how it is had from there, by huggingface_hub's own client."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from safetensors.torch import save_file
from timm.models import save_for_hf
from transformers import ViTConfig, ViTModel

import vpt
from tests.hub import Hub, standing_in
from tests.zoo import images_for, vit
from vpt import VptError, saving, sharing
from vpt.engine.rundir import RunDir

NAMES = ["ant", "bee", "cat"]
DEEP = ("embed_dim", "depth", "num_heads")
TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": 32, "num_classes": 0}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "hub-cache") as found:
        yield found


def model(seed: int = 0) -> vpt.Prompted:
    torch.manual_seed(seed)
    return vpt.attach(vit(), "vpt-deep", num_tokens=2, classes=NAMES)


def test_a_model_is_pushed_and_had_from_there_the_same(hub: Hub) -> None:
    pushed = model()
    url = pushed.push_to_hub("me/ants", metrics={"test/top1": 0.925, "note": "small"}, license="mit", data="my ants")
    commit, files = hub.files("me/ants")
    assert url.endswith(f"/me/ants/commit/{commit}")
    assert files.keys() == {"vpt.json", "vpt.safetensors", "README.md"}
    images = images_for(pushed.tower.model)
    for had in (vpt.Prompted.from_pretrained("me/ants", backbone=vit()), vpt.load("me/ants", backbone=vit())):
        assert isinstance(had, vpt.Prompted)
        assert had.classes == pushed.classes
        assert torch.equal(had(images), pushed(images))


def test_its_card_is_one_that_the_hub_reads(hub: Hub, tmp_path: Path) -> None:
    metrics = {"test/top1": 0.925, "val/top1": 0.9, "test/ece": 0.02}
    model().push_to_hub("me/ants", metrics=metrics, license="mit", data="my ants")
    card = ModelCard(hub.files("me/ants")[1]["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.model_name == "me/ants"
    results = {
        (each.dataset_name, each.dataset_split, each.metric_type): each.metric_value for each in card.data.eval_results
    }
    assert results == {("my ants", "test", "accuracy"): 0.925, ("my ants", "validation", "accuracy"): 0.9}
    assert card.data.to_dict()["model-index"][0]["name"] == "me/ants"
    assert 'vpt.load("me/ants")' in card.content
    assert "vpt predict me/ants image.jpg" in card.content
    assert "- test/ece: 0.0200" in card.content


def test_a_revision_pins_what_was_there(hub: Hub) -> None:
    images = images_for(vit())
    first, second = model(1), model(2)
    first.push_to_hub("me/ants")
    pinned = hub.files("me/ants")[0]
    second.push_to_hub("me/ants")
    assert torch.equal(vpt.load("me/ants", backbone=vit())(images), second(images))
    for had in (
        vpt.load("me/ants", backbone=vit(), revision=pinned),
        vpt.load(f"me/ants@{pinned}", backbone=vit()),
        vpt.Prompted.from_pretrained("me/ants", revision=pinned, backbone=vit()),
    ):
        assert torch.equal(had(images), first(images))
    bank = vpt.PromptBank(vit())
    bank.add("then", f"me/ants@{pinned}")
    bank.add("now", "me/ants")
    assert torch.allclose(bank.logits(images, "then")[0], first(images)[0], atol=1e-5)
    with pytest.raises(VptError, match="name two revisions"):
        vpt.load(f"me/ants@{pinned}", backbone=vit(), revision="main")


def test_a_run_is_pushed_as_it_lies_with_data_command_and_config_and_no_path(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "somebody" / "photos"
    config = {
        "backbone": {"name": "vpt/vit-nano", "weights": str(tmp_path / "w.safetensors")},
        "method": {"name": "vpt-deep"},
        "data": {"name": "folder", "path": str(place)},
        "train": {"epochs": 3},
        "out": str(tmp_path / "run"),
        "start": str(tmp_path / "former"),
    }
    with RunDir(tmp_path / "run", config=config).begin() as run:
        run.save_best(model(), {"val/top1": 0.8, "test/top1": 0.75})
    sharing.push(tmp_path / "run", "me/run", license="apache-2.0", private=True)
    assert hub.private["me/run"]
    files = hub.files("me/run")[1]
    assert not any(str(tmp_path).encode() in content or b"somebody" in content for content in files.values())
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results[0].dataset_name == "folder photos"
    assert "Command: `vpt train config.yaml`" in card.content
    assert "  epochs: 3" in card.content
    assert "start" not in card.content
    # What lies here is as it was.
    assert "about" in json.loads((tmp_path / "run" / "best" / "vpt.json").read_text())
    assert vpt.load("me/run", backbone=vit()).classes == tuple(NAMES)


def test_a_colleague_says_where_the_file_of_weights_lies(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = tmp_path / "mine" / "nano.safetensors", tmp_path / "theirs" / "copy.safetensors"
    state = timm.create_model("vit_tiny_patch16_224", **TINY).state_dict()
    for file in (mine, theirs):
        file.parent.mkdir()
        save_file(state, file)
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "my-cache"))
    backbone = {"weights": mine, "image_size": 32, "backbone_options": {k: v for k, v in TINY.items() if k in DEEP}}
    trained = vpt.create("timm/vit_tiny_patch16_224", "vpt-deep", num_tokens=2, classes=NAMES, **backbone)
    trained.push_to_hub("me/tuned")
    files = hub.files("me/tuned")[1]
    assert not any(b"/mine" in content for content in files.values())
    assert b"nano.safetensors" in files["README.md"]
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "their-cache"))
    with pytest.raises(VptError, match=r"weights of the file 'nano\.safetensors' .+ --weights FILE"):
        vpt.load("me/tuned")
    had = vpt.load("me/tuned", weights=theirs)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(had(images), trained(images))


@pytest.mark.parametrize(
    ("changes", "removed"),
    [
        ({}, ("format", "digest", "tensors", "head", "templates", "about")),
        ({"format": 1}, ("digest", "tensors")),
        ({}, ("about",)),
    ],
    ids=["before there was a number", "1", "2"],
)
def test_every_older_format_is_read(changes: dict[str, Any], removed: tuple[str, ...], tmp_path: Path) -> None:
    saved = model()
    saved.save_pretrained(tmp_path / "saved", about={"license": "mit"})
    file = tmp_path / "saved" / saving.FACTS
    facts = json.loads(file.read_text()) | changes
    facts = {key: value for key, value in facts.items() if key not in removed}
    if facts.get("format") == 2:
        facts["digest"] = saving.digest_of(facts)
    file.write_text(json.dumps(facts))
    images = images_for(saved.tower.model)
    assert torch.equal(vpt.load(tmp_path / "saved", backbone=vit())(images), saved(images))


def test_a_path_of_the_first_format_is_not_shared(hub: Hub, tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "old")
    file = tmp_path / "old" / saving.FACTS
    facts = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("format", "digest", "tensors")}
    facts["backbone"]["options"]["weights"] = "/home/somebody/w.pth"
    file.write_text(json.dumps(facts))
    sharing.push(tmp_path / "old", "me/old")
    shared = json.loads(hub.files("me/old")[1]["vpt.json"])
    assert shared["backbone"]["options"]["weights"] == "w.pth"
    assert shared["format"] == 2


def test_what_the_hub_says_against_it_is_one_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        VptError, match="'me/nothing' is no folder here, and could not be had from the Hugging Face hub"
    ):
        vpt.load("me/nothing", backbone=vit())
    with pytest.raises(VptError, match=r"me/a\.\.b could not be pushed"):
        model().push_to_hub("me/a..b")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(VptError, match=r"me/ants could not be pushed to the Hugging Face hub: .*401"):
        model().push_to_hub("me/ants")
    with pytest.raises(VptError, match="there is no folder"):
        sharing.push(tmp_path / "nothing", "me/ants")


def test_the_command_pushes_a_run(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vpt.cli import main

    model().save_pretrained(tmp_path / "ants", metrics={"test/top1": 0.9})
    assert main(["push", str(tmp_path / "ants"), "me/ants", "--license", "mit"]) == 0
    assert f"pushed: {hub.url}/me/ants/commit/" in capsys.readouterr().out
    assert vpt.load("me/ants", backbone=vit()).classes == tuple(NAMES)


def put(hub: Hub, repo: str, folder: Path) -> str:
    """Files of a folder as the newest commit of a repository."""
    hub.made(repo, private=False)
    files = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in sorted(folder.iterdir())]
    lines = [{"key": "file", "value": {"path": name, "content": content}} for name, content in files]
    return hub.commit(repo, "main", lines)


def by_hub_id(folder: Path) -> None:
    save_for_hf(timm.create_model("vit_tiny_patch16_224", **TINY), str(folder), model_args=TINY)


def by_name(folder: Path) -> None:
    folder.mkdir()
    save_file(timm.create_model("vit_tiny_patch16_224.augreg_in21k").state_dict(), folder / "model.safetensors")


def by_transformers(folder: Path) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("backbone", "repo", "make"),
    [
        ("timm/hf-hub:them/vit", "them/vit", by_hub_id),
        ("hf/them/vit", "them/vit", by_transformers),
        pytest.param(
            "timm/vit_tiny_patch16_224.augreg_in21k",
            "timm/vit_tiny_patch16_224.augreg_in21k",
            by_name,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["timm, by the hub", "transformers", "timm, by name"],
)
def test_a_backbone_comes_back_at_the_commit_that_was_trained_with(
    backbone: str, repo: str, make: Callable[[Path], None], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    make(tmp_path / "first")
    commit = put(hub, repo, tmp_path / "first")
    trained = vpt.create(backbone, "vpt-deep", num_tokens=2, classes=NAMES)
    assert trained.recipe["backbone"]["revision"] == commit
    trained.save_pretrained(tmp_path / "saved")
    # Other weights are published under the same name, and are what a name alone means from then on.
    make(tmp_path / "second")
    put(hub, repo, tmp_path / "second")
    images = torch.randn(2, 3, *trained.preprocessing.size)
    loaded = vpt.load(tmp_path / "saved")
    assert torch.equal(loaded(images), trained(images))
    assert loaded.recipe["backbone"] == trained.recipe["backbone"]
    bank = vpt.PromptBank.open(tmp_path / "saved")
    assert torch.allclose(bank.logits(images, "saved")[0], trained(images)[0], atol=1e-5)
    # A commit that is gone leaves the newest, which the fingerprint tells apart.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another-cache"))
    del hub.commits[repo][commit]
    with pytest.raises(VptError, match=f"was trained with {re.escape(backbone)} of fingerprint .+, commit {commit}"):
        vpt.load(tmp_path / "saved")
