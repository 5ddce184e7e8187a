"""Pictures of where a model looks, small enough for a page: read-out and prompts, means over blocks and rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vpt.report.attention import attention
from vpt.report.page import data_uri
from vpt.report.rollout import rollout


def looks(model: Any, images: Sequence[Image.Image], captions: Sequence[str]) -> list[dict[str, Any]]:
    """A row of pictures for each image, as the model sees it.

    They are the image, what the read-out token attends to (mean over blocks), what comes of each patch through all
    blocks (rollout), and of prompts: the rollout of those that are advanced, else how much patches attend to them
    (mean).

    Args:
        model: a `Prompted`.
        images: RGB.
        captions: of each.

    Raises:
        VptError: as `attention` does.
    """
    transform = model.preprocessing.transform()
    batch = torch.stack([transform(image) for image in images])
    blocks = attention(model, batch.to(next(model.parameters()).device))
    flow = rollout(blocks)
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.preprocessing.mean, model.preprocessing.std))
    seen = ((batch * std + mean).clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    direct = torch.stack([block.read_to_patches() for block in blocks]).mean(0)
    prompted = [block for block in blocks if len(block.prompts)]
    token = "read-out token" if len(blocks[0].read) == 1 else "read-out tokens"
    maps = [(f"{token}, mean of {len(blocks)} blocks", direct), (f"{token}, rollout", flow.read)]
    if flow.prompts is not None:
        maps.append(("prompts to patches, rollout", flow.prompts))
    elif prompted:
        onto = torch.stack([block.patches_to_prompts().sum(1) for block in prompted]).mean(0)
        maps.append((f"patches to prompts, mean of {len(prompted)} blocks", onto))
    rows = []
    for number, caption in enumerate(captions):
        picture = Image.fromarray(seen[number])
        views = [{"source": data_uri(picture), "title": "as the model sees it", "alt": caption}]
        for title, values in maps:
            drawn = data_uri(over(picture, values[number]))
            views.append({"source": drawn, "title": title, "alt": f"{title}, laid over {caption}"})
        share = float(flow.of_prompts[number])
        said = f"{caption} – {share:.0%} of the rollout comes of prompts" if prompted else caption
        rows.append({"views": views, "caption": said})
    return rows


def over(picture: Image.Image, values: Tensor) -> Image.Image:
    """A map of patches (rows, columns) in colours over an image, from its smallest value to its largest."""
    from matplotlib import colormaps

    side = 224
    array = values.double().cpu().numpy()
    low, high = array.min(), array.max()
    scaled = (array - low) / max(high - low, 1e-12)
    grey = Image.fromarray((scaled * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    strength = np.asarray(grey) / 255
    coloured = colormaps["inferno"](strength)[..., :3] * 255
    below = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC).convert("L").convert("RGB"))
    alpha = (0.3 + 0.45 * strength)[..., None]
    return Image.fromarray((below * (1 - alpha) + coloured * alpha).astype(np.uint8))
