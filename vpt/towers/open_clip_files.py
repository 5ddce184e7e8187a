"""Small models of open_clip as a folder of two files: its config, and half-precision weights without unused words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.open_clip import OpenClipTower
from vpt.towers.open_clip_text import OpenClipTextTower

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
WORDS, WORD_IDS = "token_embedding.weight", "token_ids"


def export(
    tower: Any,
    text: Any,
    logit_scale: Tensor,
    folder: Path,
    *,
    config: Mapping[str, Any],
    preprocessing: Preprocessing,
    words: Tensor,
) -> None:
    """Write a model in the layout of open_clip's `CLIP`.

    Args:
        tower: the image tower.
        text: the text tower.
        logit_scale: logarithm of the scale.
        folder: made if need be.
        config: open_clip's model config.
        preprocessing: what it was trained to see.
        words: ids of the tokens whose embeddings are kept, (W,); the others were never trained.
    """
    if not (isinstance(tower, OpenClipTower) and isinstance(text, OpenClipTextTower)):
        raise VptError("only models in open_clip's own layout can be written in its format.")
    state = {f"visual.{name}": tensor for name, tensor in tower.model.state_dict().items()}
    state |= dict(text.state_dict()) | {"logit_scale": logit_scale}
    state = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    state[WORDS] = state[WORDS][words].contiguous()
    state[WORD_IDS] = words.to(torch.int32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    facts = {"model_cfg": dict(config), "preprocess_cfg": preprocessing.to_dict()}
    (folder / CONFIG).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def read(folder: Path, *, pretrained: bool) -> tuple[CLIP, Preprocessing]:
    """The model that `export` wrote; a word that was never trained gets the mean of those that were."""
    facts = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    model = CLIP(**facts["model_cfg"])
    if pretrained:
        state = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
        ids, rows = state.pop(WORD_IDS).long(), state[WORDS]
        words = rows.mean(0).repeat(model.vocab_size, 1)
        words[ids] = rows
        model.load_state_dict(state | {WORDS: words})
    return model.eval(), Preprocessing.from_dict(facts["preprocess_cfg"])
