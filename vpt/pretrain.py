"""Backbones trained from scratch by the same loop as everything else."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vpt import build, experiment
from vpt.config import Config
from vpt.data.pairs import PairSet
from vpt.errors import VptError
from vpt.model import Prompted

WORDS_AT_ONCE = 1024


def pretrain(config: Config, *, resume: bool = False, overwrite: bool = False, progress: bool = True) -> Path:
    """Train a backbone from scratch, and write it in half precision: in timm's format, or with captions in open_clip's.

    Returns:
        The folder.
    """
    if config.method["name"] != "full":
        raise VptError(f"pretraining trains the whole backbone: set method=full, not {config.method['name']}.")
    model, result = experiment.train(config, resume=resume, overwrite=overwrite, progress=progress)
    assert config.out is not None
    folder = config.out / "backbone"
    if model.text is None:
        from vpt.towers.timm import export

        export(model.tower, folder, model.preprocessing)
    else:
        _write_image_text(model, build.check(config), folder)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return folder


def _write_image_text(model: Prompted, config: Config, folder: Path) -> None:
    from vpt.towers.open_clip_files import export

    data = build.read_data(config)
    assert model.text is not None
    assert isinstance(data, PairSet)
    captions = [caption for of_image in data.train.captions for caption in of_image]
    seen: set[int] = {0}
    for start in range(0, len(captions), WORDS_AT_ONCE):
        seen.update(model.tokenize(captions[start : start + WORDS_AT_ONCE]).unique().tolist())
    export(
        model.tower,
        model.text.tower,
        model.text.logit_scale,
        folder,
        config=config.backbone["config"],
        preprocessing=model.preprocessing,
        words=torch.tensor(sorted(seen)),
    )
