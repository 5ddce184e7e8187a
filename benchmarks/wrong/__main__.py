"""`python -m benchmarks.wrong`: try wrong inputs of every kind, and count what becomes of them."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.wrong.draws import KINDS
from benchmarks.wrong.world import OUTCOMES, attempted, build
from vpt.report.tables import markdown

BAD = ("traceback", "hang", "lost", "left behind")


def main() -> int:
    """Print a row for each kind; returns 1 where something ended in a way that nothing should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wrong", description=__doc__)
    parser.add_argument("--number", type=int, default=1000, help="attempts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--kind", choices=[kind.__name__ for kind in KINDS], help="only these")
    parser.add_argument("--show", choices=OUTCOMES, default=[], action="append", help="print those that ended so")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if given.kind in (None, kind.__name__)]
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="vpt-wrong-") as folder:
        pristine, scratch = Path(folder) / "pristine", Path(folder) / "scratch"
        pristine.mkdir()
        build(pristine)
        for index in range(given.number):
            attempt = kinds[index % len(kinds)](Random(f"{given.seed} {index}"))
            outcome, said = attempted(attempt, pristine, scratch)
            counts.setdefault(attempt.kind, Counter())[outcome] += 1
            if outcome in BAD or outcome in given.show:
                print(f"{outcome}  {index}  {attempt.kind}  {attempt.title[:120]}\n    {said}", flush=True)
    rows = [{"kind": kind, **{each: found[each] for each in OUTCOMES}} for kind, found in counts.items()]
    total = {"kind": "all", **{each: sum(found[each] for found in counts.values()) for each in OUTCOMES}}
    print(markdown([*rows, total]), end="")
    return int(any(total[each] for each in BAD))


if __name__ == "__main__":
    raise SystemExit(main())
