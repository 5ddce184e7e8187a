"""Tables of images and captions: CSV and TSV as open_clip reads them, JSON lines, JSON lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from vpt.data.caption_rows import Row, image_root, pair_set, read_csv, texts_of
from vpt.data.columns import Place, split_of
from vpt.data.columns import split_column as find_split_column
from vpt.data.pairs import PairSet
from vpt.data.rows import placed
from vpt.data.texts import parse_json, read_json, read_text
from vpt.errors import VptError, did_you_mean
from vpt.paths import resolve

NAMES = ("captions",)

# What people call the two columns, open_clip's names first.
IMAGE_COLUMNS = ("filepath", "image", "path", "file_name", "filename", "image_path", "image_name", "img")
CAPTION_COLUMNS = ("title", "caption", "captions", "text", "sentence", "sentences", "comment")


def load(
    name: str,
    *,
    path: Path,
    val: Path | None = None,
    test: Path | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    split_column: str = "split",
    separator: str | None = None,
    quotes: bool = True,
    root: Path | None = None,
    empty: Literal["stop", "skip"] = "stop",
) -> PairSet:
    """One table, with a split column or to be split; or one table for each split.

    Rows of the same image are its several captions; in JSON a list of captions may stand in one row.

    Args:
        name: "captions".
        path: a .csv, .tsv, .jsonl or .json file.
        val: the table of validation images.
        test: the table of test images.
        image_column: holds the images' paths; without it the first of `IMAGE_COLUMNS` that is there.
        caption_column: holds the captions; without it the first of `CAPTION_COLUMNS` that is there.
        split_column: holds train, val or test; without it a column of this name in any case, or the only one that
            says these alone. What a row says holds beside tables for each split too.
        separator: between columns; without it the commonest of tab, comma, semicolon and bar in the first line.
        quotes: whether quotation marks enclose values that hold the separator.
        root: what the images' paths are relative to; the table's own folder, or one of images in it, by default.
        empty: stop at empty captions, or skip and count them.

    Raises:
        VptError: a column, a caption or an image file is missing, or a table cannot be read.
    """
    if separator is not None and len(separator) != 1:
        raise VptError(f'data.separator={separator!r} is not one character: give one, for a tab write it as "\\t".')
    tables = {"train": resolve(path)} | {k: resolve(v) for k, v in (("val", val), ("test", test)) if v}
    rows: list[Row] = []
    for of_table, table in tables.items():
        read = list(_read(table, separator, quotes))
        if not read:
            raise VptError(f"{table} holds no rows: it needs one for each caption.")
        columns = list(read[0][1])
        image = _column(image_column, IMAGE_COLUMNS, columns, table, "image")
        caption = _column(caption_column, CAPTION_COLUMNS, columns, table, "caption")
        # Named for one of several tables, it need not be in the others.
        asked = split_column if len(tables) == 1 or split_column in columns else "split"
        of_splits = find_split_column(asked, [row for _, row in read], (image, caption), table)
        base = image_root(root, table.parent, str(read[0][1][image]))
        for place, row in read:
            for column in (image, caption):
                if column not in row:
                    raise VptError(f"{table}, {place} has no {column!r}: {did_you_mean(column, row)}")
            if not str(row[image] or "").strip():
                raise VptError(f"{table}, {place}: the column {image!r} is empty; fill it or remove the line.")
            split = split_of(row, of_splits, of_table, list(tables), Place(table, place))
            for text in texts_of(row[caption], f"{table}, {place}"):
                rows.append(Row(split, placed(base, str(row[image]).strip()), text, place))
    return pair_set(str(tables["train"]), rows, source=tables["train"], empty=empty)


def _read(table: Path, separator: str | None, quotes: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Places and rows."""
    kind = table.suffix.lower()
    if kind == ".json":
        rows: Iterable[tuple[str, Any]] = ((f"row {i}", row) for i, row in enumerate(_list(table), 1))
    elif kind in (".jsonl", ".ndjson"):
        rows = _json_lines(table)
    else:
        rows = ((f"line {line}", row) for line, row in read_csv(table, separator, quotes))
    for place, row in rows:
        if not isinstance(row, dict):
            raise VptError(f'{table}, {place} is no JSON object: write {{"image": …, "caption": …}}.')
        yield place, row


def _json_lines(table: Path) -> Iterator[tuple[str, Any]]:
    # Not splitlines, which would also part a caption at Unicode's other line ends.
    for number, line in enumerate(read_text(table).split("\n"), 1):
        if line.strip():
            yield f"line {number}", parse_json(line, f"{table}, line {number}")


def _list(table: Path) -> list[Any]:
    content = read_json(table)
    if not isinstance(content, list):
        raise VptError(
            f"{table} is no list of rows: for COCO's captions say data.name=coco_captions, for Karpathy's "
            "splits data.name=karpathy."
        )
    return content


def _column(asked: str | None, usual: Sequence[str], columns: Sequence[str], table: Path, what: str) -> str:
    """The name of a column: the one asked for, or the first usual one that there is."""
    if asked is not None:
        if asked not in columns:
            raise VptError(f"{table} has no column {asked!r}: {did_you_mean(asked, columns)}")
        return asked
    found = next((name for name in usual if name in columns), None)
    if found is None:
        shown = ", ".join(map(repr, columns[:8]))
        raise VptError(f"{table} has no known column of {what}s, but {shown}: set data.{what}_column to one of them.")
    return found
