"""The largest batch that fits into memory."""

from __future__ import annotations

from typing import Any

from accelerate.utils import find_executable_batch_size

from vpt.capture import WARM
from vpt.data.base import Samples
from vpt.data.pairs import Pairs
from vpt.engine.fit import fit
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.processes import processes
from vpt.report.notes import tell

# In the second step the optimizer holds what it keeps from step to step. On a GPU one more is captured, and replayed.
STEPS, CAPTURED = 2, WARM + 2
ALONE: dict[str, Any] = {"epochs": 1, "steps": None, "accumulate": 1, "warmup_epochs": 0, "progress": False}


def largest_batch(
    model: Prompted,
    train: Samples | Pairs,
    *,
    val: Samples | None = None,
    batch_size: int = 64,
    accumulate: int = 1,
    limit: int | None = None,
    progress: bool = True,
    **options: Any,
) -> tuple[int, int]:
    """The largest batch of a forward pass that fits, at as many images a step as are asked for.

    Its size divides the images of a step, so that the mean loss of accumulated batches is that of the step's images
    together. Each size is tried by `fit`, from the largest on: by two steps, or on a GPU by so many that they are
    captured, and a smaller batch behind them, and by an evaluation. What the model learns of them is of no use.

    Args:
        model: as it would be trained.
        train: images that the steps are taken on, again where there are too few.
        val: images that `fit` will be evaluated on, if any.
        batch_size: images a forward pass; their product with
        accumulate: forward passes for one step, is kept.
        limit: the largest size to try.
        progress: say on standard error what is tried.
        options: others of `fit`.

    Returns:
        `batch_size` and `accumulate` for `fit`.

    Raises:
        VptError: a loss that compares the images of a batch, nothing to train, no limit on a CPU, several processes, or
            not even one image fits.
    """
    if isinstance(train, Pairs):
        raise VptError(
            "a contrastive loss compares each pair with all others of its batch, and smaller batches would make it "
            "another one: choose train.batch_size by hand."
        )
    if not model.parameter_groups():
        raise VptError(f"{model.method.name} trains nothing: there is no batch to find for it.")
    together = processes()
    if together.num_processes > 1:
        raise VptError("the largest batch is found by one process for each of many: run this without a launcher.")
    if together.device.type == "cpu" and limit is None:
        raise VptError(
            "a CPU has no memory of its own to fill, and the system would end what asks for too much: give the "
            "largest batch to try as --max, or run this where a GPU is."
        )
    images = batch_size * accumulate
    captured = together.device.type == "cuda" and options.get("graph", "auto") is not False
    sizes = iter([size for size in range(min(images, limit or images), 0, -1) if images % size == 0])

    @find_executable_batch_size(starting_batch_size=next(sizes), reduce_batch_size_fn=lambda: next(sizes, 0))
    def attempt(size: int) -> int:
        if progress:
            tell(f"trying {size} of {images} images at once.")
        count = CAPTURED * size + size // 2 if captured else STEPS * size
        some = train.subset([index % len(train) for index in range(count)])
        held_out = val and val.subset(range(min(len(val), size)))
        fit(model, some, held_out, **{**options, **ALONE, "batch_size": size})
        return size

    try:
        size: int = attempt()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise VptError(
            "not even one image at a time fits into memory: set train.recompute=block, backbone.dtype=bf16 or "
            "text_chunk, or take a smaller backbone."
        ) from error
    return size, images // size
