"""Where a model looked in an image: what the read-out token of the last block attends to."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vpt.errors import VptError
from vpt.model import Prompted
from vpt.report.attention import attention


def look(model: Prompted, image: Tensor) -> dict[str, Any]:
    """A map of the patches of a preprocessed image (3, H, W), and the image as the model sees it.

    Returns:
        "rows", "columns" and "values", the attention to each patch, row by row; "seen", a JPEG as data URL. Where
        there is no such map, "why" alone.
    """
    device = model.tower.kernel.device
    try:
        (last,) = attention(model, image[None].to(device), blocks=[model.tower.depth - 1])
    except VptError as error:
        return {"why": str(error)}
    weights = last.read_to_patches()[0].float().cpu()
    rows, columns = weights.shape
    return {"rows": rows, "columns": columns, "values": weights.flatten().tolist(), "seen": _seen(model, image)}


def _seen(model: Prompted, image: Tensor) -> str:
    facts = model.preprocessing
    mean, std = (torch.tensor(values, dtype=image.dtype)[:, None, None] for values in (facts.mean, facts.std))
    pixels = ((image.cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
