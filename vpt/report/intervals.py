"""How far a figure on a few test images can be trusted, and which rows of a table it tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, sqrt
from statistics import mean
from typing import Any

# Of the normal distribution: 95 % lie within so many standard deviations.
Z = 1.959964

# Of a bootstrap.
DRAWS = 10_000

INTERVAL, AGAINST = "95 % interval", "against the best"
KINDS = BEST, LOWER, SAME = "best", "lower", "not told apart"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` images (Wilson, JASA 1927)."""
    spread = Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def told_apart(high: float, low: float, count: int) -> bool:
    """Whether two shares of `count` images each differ: 0 lies outside of the 95 % interval of their difference.

    The interval is Newcombe's (Statistics in Medicine 1998, method 10), for independent samples. Both rows are measured
    on the same images, which makes it too wide rather than too narrow.
    """
    (below, _), (_, above) = wilson(high, count), wilson(low, count)
    return high - low > hypot(high - below, above - low)


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


def with_intervals(
    table: Sequence[dict[str, Any]], results: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """`table` with the interval of each row's test top-1, and whether it can be told apart from that of the best row.

    Of several seeds it is the mean, taken as if it were of the test images of one: other seeds have mostly the same
    images. What another seed would have learned is not in the interval; the deviation over seeds shows it.

    Args:
        table: a row for each label, in the order of `results`.
        results: of the runs of each label; where one has no top-1 on test images the table is given as it is.
    """
    runs = [run for row in results.values() for run in row]
    if not all("top1" in run["test"] for run in runs):
        return list(table)
    shares = [mean(run["test"]["top1"] for run in row) for row in results.values()]
    counts = [min(run["data"]["sizes"]["test"] for run in row) for row in results.values()]
    best = max(shares)
    rows = []
    for row, share, count in zip(table, shares, counts, strict=True):
        low, high = wilson(share, count)
        against = BEST if share == best else LOWER if told_apart(best, share, count) else SAME
        added = {INTERVAL: f"{low:.1%} – {high:.1%}".replace("%", "")} | ({AGAINST: against} if len(table) > 1 else {})
        rows.append(_inserted(row, "test top-1 (%)", added))
    return rows


def verdict(table: Sequence[Mapping[str, Any]]) -> str:
    """Which row of a table with intervals is best, and which the test images do not tell apart from it; or nothing."""
    named: dict[str, list[str]] = {kind: [row["run"] for row in table if row.get(AGAINST) == kind] for kind in KINDS}
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
