"""Backbones trained from scratch by the same loop as everything else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from vpt import build, experiment, files
from vpt.config import Config
from vpt.data.pairs import PairSet
from vpt.engine.folder import BACKBONE, MINUTE, Lock
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.processes import on_main

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
    folder = config.out / BACKBONE
    on_main(lambda: _write(model, config, result, folder))
    return folder


def _write(model: Prompted, config: Config, result: dict[str, Any], folder: Path) -> None:
    """Write the backbone; its folder appears whole or not at all, and one that is there is of this run."""
    with Lock(folder.parent, patience=MINUTE), files.told(folder):
        if folder.is_dir():
            return
        new = files.temporary(folder)
        if new.is_dir():
            shutil.rmtree(new)
        new.mkdir()
        if model.text is None:
            from vpt.towers.timm import export

            export(model.tower, new, model.preprocessing)
        else:
            _write_image_text(model, build.check(config), new)
        (new / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        for path in (*new.iterdir(), new):
            files.flush(path)
        new.rename(folder)
        files.flush(folder.parent)


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
