"""The embedded image-text model: what it is, what it can, what is refused."""

from pathlib import Path

import pytest
import torch

import vpt
from vpt.tasks.retrieval import chance
from vpt.towers.embedded import ASSETS

FOLDER = ASSETS / "clip-nano"


def test_it_is_small_and_says_what_it_is() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 12_000_000
    assert "trained" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_it_finds_generated_scenes_far_better_than_chance() -> None:
    scenes = vpt.data.load("scenes", train=2, val=0, test=60)
    model = vpt.create("vpt/clip-nano", "zero-shot", head="text")
    values = vpt.evaluate(model, scenes.test, progress=False)
    assert values["rsum"] > 2 * chance(60, [4] * 60)["rsum"]


def test_it_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    model = vpt.create("vpt/clip-nano", "coop", init="a photo of a", classes=["dog", "cat"])
    model.save_pretrained(tmp_path / "saved")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(vpt.load(tmp_path / "saved")(images), model(images))


def test_a_word_that_was_never_trained_is_the_mean_of_those_that_were() -> None:
    tower = vpt.create("vpt/clip-nano", "zero-shot", head="text").text.tower
    words = tower.words(torch.arange(49408))
    rare = words[torch.tensor([49000, 48000, 47000])]
    assert any(torch.allclose(word, words.unique(dim=0).mean(0), atol=1e-2) for word in rare)


def test_options_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(vpt.VptError, match="vpt/clip-nano comes as it is, and takes no image_size"):
        vpt.create("vpt/clip-nano", "zero-shot", head="text", image_size=64)
