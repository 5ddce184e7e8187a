"""Tables of images and labels: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.folder import SPLITS
from vpt.errors import VptError, did_you_mean
from vpt.paths import resolve

NAMES = ("table",)

Row = dict[str, str]


def load(
    name: str,
    *,
    path: Path,
    val: Path | None = None,
    test: Path | None = None,
    image_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    root: Path | None = None,
) -> DataSet:
    """One table, with a split column or to be split; or one table for each split.

    Args:
        name: "table".
        path: a .csv, .tsv or .jsonl file; CSV may be separated by comma, semicolon or tab.
        val: the table of validation images.
        test: the table of test images.
        image_column: holds the images' paths.
        label_column: holds class names; integers count as names too, in numeric order.
        split_column: holds train, val or test, where the one table has such a column.
        root: what the images' paths are relative to; the table's own folder by default.

    Raises:
        VptError: a column, a value or an image file is missing.
    """
    tables = {"train": resolve(path)} | {k: resolve(v) for k, v in (("val", val), ("test", test)) if v}
    rows: list[tuple[str, Row, str]] = []
    for of_table, table in tables.items():
        for line, row in read_rows(table):
            place = f"{table}, line {line}"
            required = [image_column, label_column, *([split_column] if split_column != "split" else [])]
            for column in required:
                if column not in row:
                    raise VptError(f"{place} has no column {column!r}: {did_you_mean(column, row)}")
                if not row[column]:
                    raise VptError(f"{place}: the column {column!r} is empty; fill it or remove the line.")
            tells = len(tables) == 1 and split_column in row
            split = _split_of(row[split_column], place) if tells else of_table
            base = resolve(root) if root else table.parent
            rows.append((split, {"path": str(base / row[image_column]), "label": row[label_column]}, place))
    _check_files(rows)
    classes = _classes({row["label"] for split, row, _ in rows if split == "train"})
    for _, row, place in rows:
        if row["label"] not in classes:
            raise VptError(f"{place}: no training image has the label {row['label']!r}.")
    index = {label: i for i, label in enumerate(classes)}

    def samples(wanted: str) -> Files | None:
        chosen = [row for split, row, _ in rows if split == wanted]
        return Files([Path(r["path"]) for r in chosen], [index[r["label"]] for r in chosen]) if chosen else None

    train = samples("train")
    if train is None or len(classes) < 2:
        raise VptError(f"{tables['train']} has training images of {len(classes)} classes: there must be 2 or more.")
    return DataSet(str(tables["train"]), tuple(classes), train, samples("val"), samples("test"))


def read_rows(table: Path) -> Iterable[tuple[int, Row]]:
    """Line numbers and rows of a table.

    Raises:
        VptError: it is no table, or a line is broken.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise VptError(f"{table} is no table in UTF-8: name a .csv, .tsv or .jsonl file.") from error
    if not text.strip():
        raise VptError(f"{table} is empty: it needs a line for each image.")
    if table.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(table, text)
        return
    lines = text.splitlines()
    reader = csv.DictReader(lines, delimiter=max("\t,;", key=lines[0].count), skipinitialspace=True)
    for row in reader:
        number = reader.line_num
        if None in row or None in row.values():
            raise VptError(f"{table}, line {number} has another number of columns than the first line: mend it.")
        yield number, {key.strip(): value.strip() for key, value in row.items()}


def _json_rows(table: Path, text: str) -> Iterable[tuple[int, Row]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise VptError(f"{table}, line {number} is no JSON ({error}): mend it.") from error
        if not isinstance(row, dict):
            raise VptError(f'{table}, line {number} is no JSON object: write {{"path": …, "label": …}}.')
        yield number, {str(key): "" if value is None else str(value).strip() for key, value in row.items()}


def _split_of(value: str, place: str) -> str:
    if value.lower() not in SPLITS:
        raise VptError(f"{place}: split {value!r} is not one of train, val and test.")
    return SPLITS[value.lower()]


def _check_files(rows: list[tuple[str, Row, str]]) -> None:
    missing = [(row["path"], place) for _, row, place in rows if not Path(row["path"]).is_file()]
    if missing:
        path, place = missing[0]
        raise VptError(f"{len(missing)} of {len(rows)} images are missing, first {path} ({place}): set data.root.")


def _classes(labels: set[str]) -> list[str]:
    """In numeric order where every label is a whole number, otherwise in order of name."""
    return sorted(labels, key=int) if all(label.removeprefix("-").isdecimal() for label in labels) else sorted(labels)
