"""How far a figure on a few test images can be trusted, and which rows of a table it tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, sqrt
from typing import Any, NamedTuple

# Of the normal distribution: 95 % lie within so many standard deviations.
Z = 1.959964

# Of a bootstrap.
DRAWS = 10_000

INTERVAL, AGAINST = "95 % interval", "against the best"
KINDS = BEST, LOWER, SAME = "best", "lower", "not told apart"
# Behind the last two where the rows were taken for independent samples of images.
UNPAIRED = ", not paired"


class Hits(NamedTuple):
    """Which images the runs of a row got right.

    Attributes:
        names: of the images (N), in the order of the data.
        right: of each run, one a seed, whether it was right on each image: (S, N).
    """

    names: Sequence[str]
    right: Sequence[Sequence[bool]]


class Measured(NamedTuple):
    """Top-1 of a row on some images: the mean over its runs, from 0 to 1, of how many images, and of each if known."""

    top1: float
    images: int
    hits: Hits | None = None


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` images (Wilson, JASA 1927)."""
    spread = Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def told_apart(one: Measured, other: Measured) -> bool:
    """Whether two rows differ at 95 %.

    Rows that can be are paired. Of others 0 has to lie outside of Newcombe's interval of their difference (Statistics
    in Medicine 1998, method 10), which takes them for independent samples of images and knows nothing of seeds.
    """
    if one.hits and other.hits and can_be_paired(one, other):
        _, low, high = paired(one.hits.right, other.hits.right)
        return low > 0 or high < 0
    high, low, count = max(one.top1, other.top1), min(one.top1, other.top1), min(one.images, other.images)
    (below, _), (_, above) = wilson(high, count), wilson(low, count)
    return high - low > hypot(high - below, above - low)


def can_be_paired(one: Measured, other: Measured) -> bool:
    """Whether two rows are known image by image, of the same images and as many seeds.

    One that was run once, as it has nothing that is drawn, stands against each seed.
    """
    if not one.hits or not other.hits:
        return False
    seeds = {len(one.hits.right), len(other.hits.right)} - {1}
    return one.hits.names == other.hits.names and len(one.hits.names) > 1 and len(seeds) <= 1


def paired(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """The mean difference of two rows (S, N) on the same images with the same seeds, and its 95 % interval.

    Images and seeds are both drawn. What the images leave open is Student's interval of their means over seeds, and
    what the seeds leave open that of theirs over images; both halves are put together as the sides of a right angle.
    What a seed does to one image is in both, so that it holds the truth rather too often than too seldom. Three seeds
    that differ make it wide. One seed says nothing of others, and leaves the part of the images.
    """
    import numpy as np
    from scipy.stats import t

    change = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    means = [change.mean(axis) for axis in (0, 1)]
    halves = [t.ppf(0.975, len(one) - 1) * one.std(ddof=1) / sqrt(len(one)) for one in means if len(one) > 1]
    difference, half = float(change.mean()), float(np.hypot.reduce(halves))
    return difference, difference - half, difference + half


def paired_bootstrap(first: Sequence[bool], second: Sequence[bool]) -> dict[str, float]:
    """How two runs differ in top-1 on the same images, with the 95 % interval of a paired bootstrap (percentiles).

    Args:
        first: whether one run was right on each image.
        second: likewise of the other, in the same order.

    Returns:
        "difference" (first - second), "low", "high"; and how many images only one of them got right, "only_first"
        and "only_second".
    """
    import numpy as np

    change = np.asarray(first, dtype=np.int64) - np.asarray(second, dtype=np.int64)
    counts = np.array([(change == value).sum() for value in (1, 0, -1)])
    # A sample of the images with replacement is one of these three counts.
    drawn = np.random.default_rng(0).multinomial(len(change), counts / len(change), size=DRAWS)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 2]) / len(change), [2.5, 97.5])
    return {
        "difference": float(change.mean()),
        "low": float(low),
        "high": float(high),
        "only_first": int(counts[0]),
        "only_second": int(counts[2]),
    }


def with_intervals(table: Sequence[dict[str, Any]], measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """`table` with the interval of each row's test top-1, and whether it can be told apart from that of the best row.

    Of several seeds it is the mean, taken as if it were of the test images of one: other seeds have the same. What
    another seed would have learned is not in the interval; the deviation over seeds shows it.

    Args:
        table: rows with a "run".
        measured: on test images, by "run"; where one is not there the table is given as it is.
    """
    if any(row["run"] not in measured for row in table):
        return list(table)
    told = against_best(measured)
    return [_inserted(row, "test top-1 (%)", told[row["run"]]) for row in table]


def against_best(measured: Mapping[str, Measured]) -> dict[str, dict[str, str]]:
    """By row its 95 % interval and, of several, whether it is told apart from the best one and if not by pairs."""
    best = max(measured.values(), key=lambda one: one.top1)
    found = {}
    for label, one in measured.items():
        low, high = wilson(one.top1, one.images)
        found[label] = {INTERVAL: f"{low:.1%} – {high:.1%}".replace("%", "")}
        if len(measured) > 1:
            against = LOWER if told_apart(best, one) else SAME
            against += "" if can_be_paired(best, one) else UNPAIRED
            found[label][AGAINST] = BEST if one.top1 == best.top1 else against
    return found


def verdict(table: Sequence[Mapping[str, Any]]) -> str:
    """Which row of a table with intervals is best, and which the test images do not tell apart from it; or nothing."""
    named: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row in table:
        if row.get(AGAINST):
            named[row[AGAINST].removesuffix(UNPAIRED)].append(row["run"])
    if not named[BEST]:
        return ""
    best = f"best on test images: {', '.join(named[BEST])}"
    return f"{best}; not told apart from it: {', '.join(named[SAME])}" if named[SAME] else best


def _inserted(row: Mapping[str, Any], after: str, added: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with further columns behind one."""
    parts: dict[str, Any] = {}
    for key, value in row.items():
        parts[key] = value
        if key == after:
            parts |= added
    return parts
