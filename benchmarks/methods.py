"""Every method of the image side beside the frozen model: what each costs, to be held against its accuracy.

The rows are those of configs/protocols/image_methods.yaml, with random weights, which cost what others do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

import vpt
from benchmarks.image import case
from benchmarks.measure import Case, Setting
from vpt.config import assign, parse, plain, read

CONFIG = read(Path(__file__).parents[1] / "configs/protocols/image_methods.yaml")
METHODS = tuple(CONFIG.compare)


def cases(setting: Setting) -> Iterator[Case]:
    """A training step and an evaluation of each row, fast and plain."""
    batch = setting.batch or (2 if setting.quick else 32)
    for label in METHODS:
        if setting.wants(label):
            yield case(model_of(label, setting, batch), batch, setting, {"method": label})


def model_of(label: str, setting: Setting, batch: int) -> vpt.Prompted:
    values = {key: value for key, value in plain(CONFIG).items() if key not in ("compare", "select", "seeds")}
    own = CONFIG.compare[label]
    row = parse(assign(values | {key: own[key] for key in ("head",) if key in own}, "method", own["method"]))
    torch.manual_seed(0)
    model = vpt.create(
        row.backbone["name"],
        row.method["name"],
        num_classes=100,
        head=row.head,
        image_size=row.backbone["image_size"],
        pretrained=False,
        backbone_options={"depth": 2} if setting.quick else None,
        **{key: value for key, value in row.method.items() if key != "name"},
    )
    if model.needs_images:
        model.initialise(torch.randn(batch, 3, *model.preprocessing.size))
    return model.to(setting.device)
