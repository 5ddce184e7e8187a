"""How far a run is: bars where somebody looks, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property
from html import escape
from typing import Any

from tqdm import tqdm

from vpt.report.notes import PROGRESS, printable

# Which of many runs this is, as lines of progress show it.
RUN: ContextVar[str] = ContextVar("RUN", default="")


@contextmanager
def labelled(run: str) -> Iterator[None]:
    """Have all lines and bars of progress begin with the name of a run."""
    before = RUN.set(run)
    try:
        yield
    finally:
        RUN.reset(before)


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

    @cached_property
    def cell(self) -> Cell | None:
        """What is written to in a notebook."""
        return Cell() if in_notebook() else None

    def bar(self, batches: Iterable[Any], title: str, total: int | None = None) -> Any:
        """`batches` with a bar that goes away at the end."""
        if not (self.enabled and (in_notebook() or sys.stderr.isatty())):
            return tqdm(batches, disable=True)
        title = f"{printable(RUN.get())}  {title}".strip()
        return tqdm(batches, desc=title, total=total, leave=False, file=self.cell, ncols=100 if self.cell else None)

    def epoch_bar(self, batches: Iterable[Any], epoch: int) -> Any:
        """`batches` of epoch 0, 1, … with a bar; show figures in it with `figures`."""
        return self.bar(batches, f"epoch {epoch + 1}/{self.epochs}")

    @staticmethod
    def figures(bar: Any, figures: Mapping[str, float]) -> None:
        """Show figures so far beside the bar."""
        bar.set_postfix_str(_told(figures), refresh=False)

    def epoch_line(self, row: dict[str, Any]) -> None:
        """Log what an epoch came to, and the time that is left; in a notebook it is shown."""
        if not self.enabled:
            return
        parts = [printable(RUN.get())] if RUN.get() else []
        parts += [f"epoch {row['epoch']}/{self.epochs}", _told(row)]
        if "val/top1" in row:
            parts.append(f"val loss {row['val/loss']:.3f}, top-1 {row['val/top1']:.1%}")
        if "val/rsum" in row:
            parts.append(f"val R@10 {row['val/i2t_r10']:.1%} / {row['val/t2i_r10']:.1%}, rsum {row['val/rsum']:.1f}")
        per_epoch = (time.perf_counter() - self.started) / (row["epoch"] - self.done)
        left = timedelta(seconds=round(per_epoch * (self.epochs - row["epoch"])))
        parts.append(f"{left} left" if row["epoch"] < self.epochs else "done")
        if self.cell is None:
            PROGRESS.info("%s", "  ".join(parts))
        else:
            self.cell.rows.append(row)
            print("  ".join(parts), file=self.cell, flush=True)


class Cell:
    """One output of a notebook cell that is written over, as a terminal's last line is.

    tqdm's own bar for notebooks needs widgets, and its plain one leaves a line for every step in a saved notebook.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.last = ""
        self.output: Any = None

    def write(self, text: str) -> None:
        """Add to the last line; after a carriage return in place of it."""
        *done, last = text.split("\n")
        for line in done:
            self.lines.append(_overwritten(self.last + line))
            self.last = ""
        self.last = _overwritten(self.last + last)

    def flush(self) -> None:
        """Show what was written, and from the second epoch on the curves so far; nothing until there is something."""
        from IPython.display import display

        # A bar that has gone leaves blanks.
        text = "\n".join([*self.lines, self.last]).rstrip()
        if self.output is None and not text:
            return
        shown = {"text/plain": text}
        if len(self.rows) > 1:
            from vpt.report.notebook import boxed, curves

            shown["text/html"] = boxed(f"{curves(self.rows)}<pre>{escape(text)}</pre>")
        if self.output is None:
            self.output = display(shown, raw=True, display_id=True)
        else:
            self.output.update(shown, raw=True)


def _overwritten(line: str) -> str:
    return line.rpartition("\r")[2]


def _told(figures: Mapping[str, float]) -> str:
    speed = f"{figures['images_per_second']:.0f} images/s, {figures['data_wait']:.0%} waiting for data"
    hits = f"top-1 {figures['train/top1']:.1%}, " if "train/top1" in figures else ""
    return f"loss {figures['train/loss']:.3f}, {hits}{speed}"


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")
