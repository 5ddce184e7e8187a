"""Several sets of images and captions as one, as pre-training takes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from vpt.data.pairs import JoinedPairs, Pairs, PairSet
from vpt.data.parts import checked_part, load_part
from vpt.errors import VptError

NAMES = ("mixed",)


def load(name: str, *, sources: list[dict[str, Any]]) -> PairSet:
    """Training images of all sources together, and so val and test of those sources that have them.

    Args:
        name: "mixed".
        sources: {name, options} of each, e.g. {name: flickr8k, val_fraction: 0.1}; a split that a source lacks is
            not made unless its own val_fraction or test_fraction asks for it. The further option repeat says how
            often its training images come in a pass, 1 by default; of 2.5 every image comes twice and a half of
            them, always the same, once more.

    Raises:
        VptError: no sources, an option that will not do, or a source of labelled images.
    """
    if not sources:
        raise VptError("data.sources is empty: list sources of images with captions, each with a name.")
    for number, source in enumerate(sources):
        checked_part(_without_repeat(source), f"data.sources[{number}]")
        repeat = source.get("repeat", 1)
        if isinstance(repeat, bool) or not isinstance(repeat, int | float) or not 0 < repeat < 1e6:
            raise VptError(f"data.sources[{number}].repeat={repeat!r} will not do: give a number above 0.")
    parts: list[PairSet] = []
    for number, source in enumerate(sources):
        part = load_part(_without_repeat(source), f"data.sources[{number}]")
        if not isinstance(part, PairSet):
            raise VptError(
                f"data.sources[{number}].name={source['name']} has labels and no captions: write "
                f"{{name: classes, data: {{name: {source['name']}, …}}}}."
            )
        parts.append(part)
    train = [_repeated(part.train, source.get("repeat", 1)) for part, source in zip(parts, sources, strict=True)]
    return PairSet(
        f"{name} {' + '.join(part.name for part in parts)}",
        JoinedPairs(train),
        _joined([part.val for part in parts]),
        _joined([part.test for part in parts]),
        skipped=tuple(image for part in parts for image in part.skipped),
        empty=sum(part.empty for part in parts),
    )


def _without_repeat(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "repeat"}


def _repeated(pairs: Pairs, times: float) -> Pairs:
    whole, rest = divmod(times, 1)
    chosen = random.Random(0).sample(range(len(pairs)), round(rest * len(pairs)))
    return pairs.subset([*range(len(pairs))] * int(whole) + sorted(chosen)) if times != 1 else pairs


def _joined(parts: Sequence[Pairs | None]) -> Pairs | None:
    there = [part for part in parts if part is not None and len(part)]
    return JoinedPairs(there) if there else None
