"""What was measured on a GPU, as a table, and held against what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MODES = ("eager", "captured", "compiled, captured")
FIT = "in vpt.fit"
COLUMNS = (
    *("what", "form", "mode", "ms", "over the limit", "GPU busy", "with the profiler", "kernels", "GB", "images/s"),
    "compiled in (s)",
)


@dataclass(frozen=True)
class Row:
    """A step, or a forward pass, run in one way.

    Attributes:
        what: method and its size.
        form: "fast", "plain", or "library" for the frozen model's own forward pass.
        mode: one of `MODES`, or `FIT` and the steps of an epoch, a step with all that stands around it.
        milliseconds: of a step, forward and backward with a fused optimizer; median of several times ten.
        profiled: share of the time of steps under torch's profiler in which the GPU is at work, where they were.
        kernels: that a step starts, likewise.
        at_work: milliseconds of a step in which the GPU is at work, likewise.
        added: microseconds that the profiler takes behind each kernel.
        gigabytes: most memory in use.
        images: a second.
        limit: the step over two frozen forward passes run in the same way; None for texts.
        seconds: to compile, where that was done.
    """

    what: str
    form: str
    mode: str
    milliseconds: float
    profiled: float | None
    kernels: int | None
    gigabytes: float
    images: float
    limit: float | None = None
    seconds: float | None = None
    at_work: float | None = None
    added: float = 0.0

    @property
    def busy(self) -> float | None:
        """Share of a step in which the GPU is at work, where no profiler takes time between kernels.

        That leaves the kernels themselves as long as they are, as `gpu_clock` shows.
        """
        if self.at_work is None or self.kernels is None or not self.profiled:
            return self.profiled
        waiting = self.at_work * (1 / self.profiled - 1) - self.kernels * self.added / 1000
        return self.at_work / (self.at_work + max(0.0, waiting))


def told(row: Row) -> str:
    """A row as one line."""
    limit = "" if row.limit is None else f", {row.limit:.2f} x the limit"
    busy = "" if row.busy is None else f", busy {row.busy:.0%}"
    return f"{row.what}, {row.form}, {row.mode}: {row.milliseconds:.2f} ms{limit}{busy}"


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.2f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        shares = " | ".join("" if share is None else f"{share:.1%}" for share in (row.busy, row.profiled))
        kernels = "" if row.kernels is None else row.kernels
        figures = f"{row.milliseconds:.2f} | {limit} | {shares} | {kernels} | {row.gigabytes:.2f}"
        lines.append(f"| {row.what} | {row.form} | {row.mode} | {figures} | {row.images:.0f} | {seconds} |")
    return lines


def judged(rows: Sequence[Row]) -> list[str]:
    """What is aimed at, and whether it is met."""
    by = {(row.what, row.form, row.mode): row for row in rows}
    found: list[tuple[str, float, str, bool]] = []

    def at_most(name: str, value: float, most: float) -> None:
        found.append((name, value, f"≤ {most:.3g}", value <= most))

    def at_least(name: str, value: float, least: float) -> None:
        found.append((name, value, f"≥ {least:.3g}", value >= least))

    for what in dict.fromkeys(row.what for row in rows):
        fast, plain = by.get((what, "fast", "captured")), by.get((what, "plain", "captured"))
        eager = by.get((what, "plain", "eager"))
        if fast and plain:
            at_most(f"{what}: captured, fast over plain", fast.milliseconds / plain.milliseconds, 1.0)
        for mode in MODES[1:]:
            row = by.get((what, "fast", mode))
            if row and row.busy is not None:
                at_least(f"{what}: GPU busy, {mode}", row.busy, 0.9)
        times = TIMES.get(what)
        if fast and eager and times:
            at_least(f"{what}: plain, eager over fast, captured", eager.milliseconds / fast.milliseconds, times)
        if what == "coop, 1000 classes" and fast and eager:
            at_most(f"{what}: memory over the plain form's", fast.gigabytes / eager.gigabytes, 1 / 6)
    for (what, mode), most in LIMITS.items():
        row = by.get((what, "fast", mode))
        if row and row.limit is not None:
            at_most(f"{what}, {mode}: over the limit", row.limit, most)
    lines = ["| target | found | aimed at | met |", "| --- | ---: | ---: | --- |"]
    return lines + [f"| {name} | {value:.2f} | {aim} | {'yes' if met else 'no'} |" for name, value, aim, met in found]


TIMES = {
    "coop, 100 classes": 8.0,
    "cocoop, 100 classes": 8.0,
    "coop, 1000 classes": 12.0,
    "maple, 100 classes": 5.0,
    "ivlp, 100 classes": 5.0,
    "promptsrc, 100 classes": 5.0,
}

LIMITS = {
    ("vpt-deep 10", "compiled, captured"): 1.10,
    ("vpt-deep 50", "compiled, captured"): 1.15,
    ("vpt-deep 200", "compiled, captured"): 1.35,
    ("vpt-deep 50", "captured"): 1.35,
}
