"""How far a run is: bars where somebody looks, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from tqdm import tqdm


class Progress:
    """Bars in a terminal or a notebook; in a file one plain line an epoch, without carriage returns.

    Args:
        enabled: False shows nothing at all.
        epochs: how many a run has, for the time that is left.
        done: epochs that an earlier run did.
    """

    def __init__(self, *, enabled: bool = True, epochs: int = 0, done: int = 0) -> None:
        self.enabled = enabled
        self.epochs = epochs
        self.done = done
        self.started = time.perf_counter()

    def bar(self, batches: Iterable[Any], title: str) -> Any:
        """`batches` with a bar that goes away at the end."""
        if not (self.enabled and interactive()):
            return tqdm(batches, disable=True)
        # In a notebook without widgets this import warns, so it is made only where a bar is shown.
        from tqdm.auto import tqdm as shown

        return shown(batches, desc=title, leave=False)

    def epoch_bar(self, batches: Iterable[Any], epoch: int) -> Any:
        """`batches` of epoch 0, 1, … with a bar; show figures in it with `figures`."""
        return self.bar(batches, f"epoch {epoch + 1}/{self.epochs}")

    @staticmethod
    def figures(bar: Any, figures: Mapping[str, float]) -> None:
        """Show figures so far beside the bar."""
        bar.set_postfix_str(_told(figures), refresh=False)

    def epoch_line(self, row: dict[str, Any]) -> None:
        """Print what an epoch came to, and the time that is left."""
        if not self.enabled:
            return
        parts = [f"epoch {row['epoch']}/{self.epochs}", _told(row)]
        if "val/top1" in row:
            parts.append(f"val loss {row['val/loss']:.3f}, top-1 {row['val/top1']:.1%}")
        per_epoch = (time.perf_counter() - self.started) / (row["epoch"] - self.done)
        left = timedelta(seconds=round(per_epoch * (self.epochs - row["epoch"])))
        parts.append(f"{left} left" if row["epoch"] < self.epochs else "done")
        print("  ".join(parts), file=sys.stderr, flush=True)


def _told(figures: Mapping[str, float]) -> str:
    speed = f"{figures['images_per_second']:.0f} images/s"
    return f"loss {figures['train/loss']:.3f}, top-1 {figures['train/top1']:.1%}, {speed}"


def interactive() -> bool:
    """Whether standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
