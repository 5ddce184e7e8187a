"""What a model said of each image of a split, kept with a run, and how far that can be relied on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from torch import Tensor

from vpt.data.base import Samples
from vpt.engine.folder import PREDICTIONS
from vpt.errors import VptError
from vpt.files import write
from vpt.report.intervals import Hits, wilson
from vpt.report.tables import comma_separated
from vpt.tasks.calibration import best_temperature, calibration

Outputs = tuple[Samples, Tensor, Tensor]


class Said(BaseModel):
    """A row of predictions.csv, whose cells are texts."""

    split: str
    image: str
    label: int = Field(ge=0)
    said: int = Field(ge=0)
    score: float = Field(ge=0, le=1)
    calibrated: Annotated[float | None, BeforeValidator(lambda text: text or None)] = Field(ge=0, le=1)
    of_label: float = Field(ge=0, le=1)


def joined(outputs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) of all batches."""
    logits, labels = zip(*outputs, strict=True)
    return torch.cat(logits), torch.cat(labels)


def trusted(splits: Mapping[str, Outputs]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of calibration, and a row for each image.

    The temperature is found on validation images alone; without any there is none.

    Args:
        splits: "val", "test" or both, with their images, logits (N, C) and labels (N,).

    Returns:
        "temperature", and for each split the errors of `vpt.tasks.calibration.calibration`, and "top1_interval", 95 %;
        and the rows of predictions.csv: "split", "image", "label" and "said" (classes by number), "score" (the
        probability of what was said), "calibrated" (the same at the temperature), "of_label" (that of the label).
    """
    temperature = best_temperature(*splits["val"][1:]) if "val" in splits else None
    figures: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    rows: list[dict[str, Any]] = []
    for split, (samples, logits, labels) in splits.items():
        said = logits.argmax(-1)
        found: dict[str, Any] = calibration(logits, labels, temperature or 1.0)
        if temperature is None:
            found = {key: value for key, value in found.items() if not key.endswith("_calibrated")}
        top1 = (said == labels).double().mean().item()
        figures[split] = found | {"top1_interval": list(wilson(top1, len(labels)))}
        rows += _rows(split, samples, logits, labels, temperature)
    return figures, rows


def _rows(
    split: str, samples: Samples, logits: Tensor, labels: Tensor, temperature: float | None
) -> list[dict[str, Any]]:
    plain = logits.double().softmax(-1)
    score, said = plain.max(-1)
    of_label = plain.gather(1, labels[:, None].long())[:, 0]
    scaled = score if temperature is None else (logits.double() / temperature).softmax(-1).amax(-1)
    columns = zip(labels.tolist(), said.tolist(), score.tolist(), scaled.tolist(), of_label.tolist(), strict=True)
    return [
        {
            "split": split,
            "image": samples.name(index),
            "label": label,
            "said": guess,
            "score": f"{sure:.6f}",
            "calibrated": "" if temperature is None else f"{calibrated:.6f}",
            "of_label": f"{true:.6f}",
        }
        for index, (label, guess, sure, calibrated, true) in enumerate(columns)
    ]


def write_predictions(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = PREDICTIONS) -> None:
    """Keep the rows of `trusted` as predictions.csv, or in a file of another name."""
    # A path in no UTF-8 is written as the bytes that it is.
    text = comma_separated([dict(row) for row in rows])
    write(folder / name, text.encode("utf-8", errors="surrogateescape"))


def read_hits(folders: Sequence[Path], split: str = "test", name: str = PREDICTIONS) -> Hits | None:
    """Which images of a split the runs in `folders` got right; none where they were not kept, or differ."""
    found = [[row for row in read_predictions(folder, name) if row["split"] == split] for folder in folders]
    images = [[row["image"] for row in rows] for rows in found]
    if not images[0] or any(other != images[0] for other in images):
        return None
    return Hits(images[0], [[row["label"] == row["said"] for row in rows] for rows in found])


def read_predictions(folder: Path, name: str = PREDICTIONS) -> list[dict[str, Any]]:
    """The rows of predictions.csv with numbers as such; none where a run was made before it was kept."""
    path = folder / name
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            return [Said.model_validate(row).model_dump() for row in csv.DictReader(file)]
        except (ValidationError, csv.Error) as error:
            told = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                told = f"{'.'.join(map(str, first['loc'])) or 'a row'}: {first['msg'].lower()}"
            raise VptError(f"{path} is damaged ({told}): remove it, or run it again with --overwrite.") from error
