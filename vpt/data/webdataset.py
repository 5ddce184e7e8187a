"""Shards of images and captions: tar files in which what belongs together has one name, as WebDataset writes them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from io import BytesIO
from itertools import product
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from vpt.data.caption_rows import check_empty, texts_of
from vpt.data.pairs import Pairs, PairSet
from vpt.data.texts import parse_json
from vpt.errors import VptError
from vpt.images import IMAGE_SUFFIXES, decode
from vpt.paths import data_root, resolve
from vpt.report.notes import first_of, tell

NAMES = ("webdataset",)

# The largest public sets have some hundred thousand shards.
MOST_SHARDS = 1_000_000
# In bytes, of the file of one image.
LONGEST_CAPTION = 2**20


class Member(NamedTuple):
    """Where an image's bytes lie."""

    shard: Path
    name: str
    start: int
    length: int


class TarPairs(Pairs):
    """Images in uncompressed tar files, each read where it lies."""

    def __init__(self, members: Sequence[Member], captions: Sequence[Sequence[str]]) -> None:
        self.members = list(members)
        self.captions = [tuple(of_image) for of_image in captions]

    def image(self, index: int) -> Image.Image:
        """Decoded from its shard."""
        member = self.members[index]
        try:
            with member.shard.open("rb") as file:
                file.seek(member.start)
                content = BytesIO(file.read(member.length))
        except OSError as error:
            raise VptError(f"{self.name(index)} cannot be read ({error}): put the shard back.") from error
        return decode(content, self.name(index))

    def name(self, index: int) -> str:
        """Its shard and its name there."""
        return f"{self.members[index].shard}/{self.members[index].name}"

    def subset(self, indices: Sequence[int]) -> TarPairs:
        """Those at `indices`, in this order."""
        return TarPairs([self.members[i] for i in indices], [self.captions[i] for i in indices])

    def stored(self, index: int) -> bool:
        """Always."""
        return True


def load(
    name: str,
    *,
    path: str,
    val: str | None = None,
    test: str | None = None,
    caption_key: str = "txt",
    json_field: str = "caption",
    empty: Literal["stop", "skip"] = "stop",
) -> PairSet:
    """All shards' images with the captions beside them; the shards are listed once and read in any order.

    Args:
        name: "webdataset".
        path: of the training shards: a file, a folder, a pattern such as "cc3m/*.tar" or
            "cc3m/{00000..00331}.tar", as it stands or below VPT_DATA.
        val: likewise of the validation shards.
        test: likewise of the test shards.
        caption_key: suffix of the captions: "txt", or "json" for a field of a JSON object.
        json_field: which field, a caption or a list of several.
        empty: stop at empty captions, or skip and count them.

    Raises:
        VptError: shards or captions are missing, or a shard cannot be read.
    """
    places = {"train": path} | {split: place for split, place in (("val", val), ("test", test)) if place}
    splits: dict[str, TarPairs] = {}
    blank: list[str] = []
    without: list[str] = []
    total = 0
    split_of: dict[Path, str] = {}
    for split, place in places.items():
        members: list[Member] = []
        captions: list[list[str]] = []
        for shard in _shards(place, "data.path" if split == "train" else f"data.{split}"):
            first = split_of.setdefault(shard.resolve(), split)
            if first != split:
                raise VptError(f"{shard} is among the shards of {first} and of {split}: keep it in one.")
            for member, texts in _read(shard, caption_key, json_field):
                kept = [" ".join(text.split()) for text in texts if text.strip()]
                total += len(texts)
                blank += [f"{shard}/{member.name}"] * (len(texts) - len(kept))
                if kept:
                    members.append(member)
                    captions.append(kept)
                else:
                    without.append(f"{shard}/{member.name}")
        splits[split] = TarPairs(members, captions)
    check_empty(blank, total, path, empty)
    if not any(len(pairs) for pairs in splits.values()):
        raise VptError(f"{path} holds no images with captions.")
    return PairSet(
        f"{name} {path}",
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        skipped=tuple(without),
        empty=len(blank),
    )


def _shards(place: str, option: str) -> list[Path]:
    """Tar files that a name, a folder, a pattern or a brace of numbers stands for, in order."""
    names = _unbraced(place, option)
    found: list[Path] = []
    for name in names:
        if any(sign in name for sign in "*?["):
            found += next((hits for root in (Path(), data_root()) if (hits := sorted(_glob(root, name)))), [])
            continue
        there = resolve(name)
        found += sorted(there.glob("*.tar")) if there.is_dir() else [there]
    if not found:
        raise VptError(f"{option}={place!r} names no .tar file: correct it or set VPT_DATA.")
    return found


def _glob(root: Path, pattern: str) -> list[Path]:
    path = Path(pattern)
    return list(
        Path(path.anchor).glob(str(path.relative_to(path.anchor))) if path.is_absolute() else root.glob(pattern)
    )


def _unbraced(place: str, option: str) -> list[str]:
    """Every name that numbers in braces stand for, with as many digits as the first: "{00..11}"."""
    pieces = re.split(r"\{(\d{1,18})\.\.(\d{1,18})\}", place)
    # Read as they are written, before any of them is counted up to.
    count = prod(max(0, int(high) - int(low) + 1) for low, high in zip(pieces[1::3], pieces[2::3], strict=True))
    if count > MOST_SHARDS:
        raise VptError(
            f"{option}={place!r} stands for {count:,} shards, and at most {MOST_SHARDS:,} are read: correct it."
        )
    ranges = [
        [f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1)]
        for low, high in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    texts = pieces[0::3]
    return ["".join(a + b for a, b in zip(texts, (*numbers, ""), strict=True)) for numbers in product(*ranges)]


def _read(shard: Path, caption_key: str, json_field: str) -> list[tuple[Member, list[str]]]:
    """Images of a shard, each with its captions."""
    images: dict[str, Member] = {}
    texts: dict[str, list[str]] = {}
    suffixes: dict[str, list[str]] = {}
    unread: list[str] = []
    try:
        with tarfile.open(shard, "r:") as tar:
            for entry in tar:
                folder, _, file = entry.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                if not entry.isfile() or not stem:
                    continue
                key = f"{folder}/{stem}"
                suffixes.setdefault(key, []).append(suffix)
                if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    if key in images:
                        unread.append(entry.name)
                    images.setdefault(key, Member(shard, entry.name, entry.offset_data, entry.size))
                elif suffix == caption_key:
                    if entry.size > LONGEST_CAPTION:
                        raise VptError(
                            f"{shard}/{entry.name} has {entry.size:,} bytes, which is no caption: remove it."
                        )
                    content = tar.extractfile(entry)
                    assert content is not None  # A regular file has content.
                    texts[key] = _texts(content.read(), caption_key, json_field, f"{shard}/{entry.name}")
    except (tarfile.TarError, OSError) as error:
        raise VptError(f"{shard} is no whole, uncompressed tar file ({error}): unpack or download it again.") from error
    for key, member in images.items():
        if key not in texts:
            there = ", ".join(suffixes[key])
            raise VptError(f"{shard}/{member.name} has no .{caption_key} beside it, but {there}: set data.caption_key.")
    unread += [f"{key} without an image" for key in texts if key not in images]
    if unread:
        tell(f"{len(unread)} files of {shard} are not read, as an image comes once, with captions: {first_of(unread)}.")
    return [(member, texts[key]) for key, member in images.items()]


def _texts(content: bytes, caption_key: str, json_field: str, place: str) -> list[str]:
    """The captions in one file of a shard."""
    try:
        # With the mark that some editors begin a file with, which is no part of the caption.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VptError(f"{place} is no {caption_key} in UTF-8 ({error}): mend it.") from error
    if caption_key != "json":
        return [text]
    record = parse_json(text, place)
    if not isinstance(record, dict) or json_field not in record:
        there = ", ".join(map(str, record)) if isinstance(record, dict) else "no object"
        raise VptError(f"{place} has no field {json_field!r}, but {there}: set data.json_field.")
    return texts_of(record[json_field], place)
