"""Tables of images and labels: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.columns import Place, check_columns, split_column, split_of
from vpt.data.rows import Labelled, check_there, each_once, placed
from vpt.data.texts import parse_json, read_text
from vpt.errors import VptError, did_you_mean
from vpt.paths import resolve
from vpt.report.notes import first_of, tell

NAMES = ("table",)

# What tables are called that are not read.
NO_TABLES = frozenset({".feather", ".json", ".ods", ".parquet", ".pkl", ".xls", ".xlsx"})

# Labels that may be classes, and are often what a program writes where there is none.
NOTHING = frozenset({"<na>", "n/a", "na", "none", "null", "undefined"})
# Whole numbers as programs write them in a column where some numbers are missing.
WHOLE = re.compile(r"-?[0-9]+(\.0+)?")

# Digits that Python makes a number of at once.
LONGEST_NUMBER = 4000

Row = dict[str, str]


class NoName(str):
    """A value of JSON that is no text and no whole number, as it is written there."""

    __slots__ = ()


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

    Rows that repeat an image are left out and counted.

    Args:
        name: "table".
        path: a .csv, .tsv or .jsonl file; CSV may be separated by comma, semicolon or tab.
        val: the table of validation images.
        test: the table of test images.
        image_column: holds the images' paths.
        label_column: holds class names; whole numbers, also written as 3.0, count as names too, in numeric order.
        split_column: holds train, val or test; without it a column of this name in any case, or the only one that
            says these alone. What a row says holds beside tables for each split too.
        root: what the images' paths are relative to; the table's own folder by default.

    Raises:
        VptError: a column, a value or an image file is missing, a label is no class, or an image has two labels or is
            in two splits.
    """
    tables = {"train": resolve(path)} | {k: resolve(v) for k, v in (("val", val), ("test", test)) if v}
    rows = [
        row
        for of_table, table in tables.items()
        for row in _labelled(
            table,
            of_table,
            list(tables),
            image_column=image_column,
            label_column=label_column,
            asked=split_column,
            base=resolve(root) if root else table.parent,
        )
    ]
    check_there(rows, "set data.root")
    rows = each_once(_as_meant(rows, label_column))
    if not any(row.split == "train" for row in rows):
        raise VptError(f"{tables['train']} has no training images: mark some, or remove the column of splits.")
    classes = _classes({row.label for row in rows if row.split == "train"})
    for row in rows:
        if row.label not in classes:
            raise VptError(f"{row.place}: no training image has the label {row.label!r}.")
    index = {label: i for i, label in enumerate(classes)}

    def samples(wanted: str) -> Files:
        chosen = [row for row in rows if row.split == wanted]
        return Files([row.image for row in chosen], [index[row.label] for row in chosen])

    return DataSet(
        str(tables["train"]), tuple(classes), samples("train"), samples("val") or None, samples("test") or None
    )


def _labelled(
    table: Path,
    of_table: str,
    tables: list[str],
    *,
    image_column: str,
    label_column: str,
    asked: str,
    base: Path,
) -> Iterator[Labelled[str]]:
    """The rows of a table, checked one by one."""
    read = list(read_rows(table))
    if not read:
        raise VptError(f"{table} holds no rows: it needs one for each image.")
    # Named for one of several tables, it need not be in the others.
    asked = asked if len(tables) == 1 or any(asked in row for _, row in read) else "split"
    column = split_column(asked, [row for _, row in read], (image_column, label_column), table)
    for line, row in read:
        place = Place(table, f"line {line}")
        for required in (image_column, label_column):
            if required not in row:
                key = "label_column" if required == label_column else "image_column"
                near = did_you_mean(required, row)
                remedy = near if near.endswith("?") else f"{near[:-1]}; say data.{key}=…."
                raise VptError(f"{place} has no column {required!r}: {remedy}")
            if not row[required]:
                raise VptError(f"{place}: the column {required!r} is empty; fill it or remove the line.")
        label = row[label_column]
        if (
            isinstance(label, NoName)
            or label.lower() == "nan"
            or (label[0] + label[-1] in ("[]", "{}") and len(label) > 1)
        ):
            raise VptError(f"{place}: the label {label!r} is no class; write the name of one, or remove the line.")
        split = split_of(row, column, of_table, tables, place)
        yield Labelled(split, placed(base, row[image_column]), label, str(place))


def read_rows(table: Path) -> Iterable[tuple[int, Row]]:
    """The lines that rows begin on, and the rows of a table.

    Raises:
        VptError: it is no table, or a line is broken.
    """
    if table.suffix.lower() in NO_TABLES:
        raise VptError(f"{table} is no table that can be read: save it as .csv, or as .jsonl with an object a line.")
    text = read_text(table)
    if not text.strip():
        raise VptError(f"{table} is empty: it needs a line for each image.")
    if table.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(table, text)
        return
    yield from _csv_rows(table, text)


def _csv_rows(table: Path, text: str) -> Iterator[tuple[int, Row]]:
    """The line that each row begins on, and the row."""
    # Not splitlines, which would also part a value at Unicode's other line ends.
    lines = list(StringIO(text))
    first = next(line for line in lines if line.strip())
    separator = max("\t,;", key=first.count)
    columns: list[str] = []
    reader, end = csv.reader(lines, delimiter=separator, skipinitialspace=True), 0
    while True:
        number = end + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _not_closed(table, number) from error
        if row is None:
            return
        end = reader.line_num
        if end > number:
            _check_closed("".join(lines[number - 1 : end]), separator, table, number)
        if len(row) <= 1 and not any(value.strip() for value in row):
            continue
        row = [value.strip() for value in row]
        if not columns:
            columns = check_columns(row, table)
        elif len(row) != len(columns):
            raise VptError(f"{table}, line {number} has another number of columns than the first line: mend it.")
        else:
            yield number, dict(zip(columns, row, strict=True))


def _check_closed(text: str, separator: str, table: Path, number: int) -> None:
    """Nothing, if a row that goes over several lines is one whose quotation marks close.

    Raises:
        VptError: they do not, and the row has taken in others.
    """
    try:
        list(csv.reader(StringIO(text), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise _not_closed(table, number) from error


def _not_closed(table: Path, number: int) -> VptError:
    return VptError(f"{table}, line {number} has quotation marks that are not closed: close them.")


def _json_rows(table: Path, text: str) -> Iterable[tuple[int, Row]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{table}, line {number}")
        if not isinstance(row, dict):
            raise VptError(f'{table}, line {number} is no JSON object: write {{"path": …, "label": …}}.')
        yield number, {str(key): _written(value) for key, value in row.items()}


def _written(value: object) -> str:
    """A value of JSON as a text; 3.0 is the number 3, as other programs write it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return str(whole) if isinstance(whole, int) and not isinstance(whole, bool) else NoName(json.dumps(value))


def _as_meant(rows: list[Labelled[str]], column: str) -> list[Labelled[str]]:
    """Whole numbers that a program has written with a point are these numbers; words for "nothing" are told."""
    labels = {row.label for row in rows}
    nothing = sorted(label for label in labels if label.lower() in NOTHING)
    if nothing:
        told = first_of([repr(label) for label in nothing])
        tell(
            f"the column {column!r} says {told}, which is taken for a class: remove these rows if it means that there "
            "is none."
        )
    several = sorted(label for label in labels if "\n" in label)
    if several:
        told = first_of([repr(label) for label in several])
        tell(
            f"the column {column!r} has labels of several lines, {told}: mend the quotation marks if rows are in them."
        )
    if not any("." in label for label in labels) or not all(WHOLE.fullmatch(label) for label in labels):
        return rows
    one = next(row.label for row in rows if "." in row.label)
    tell(
        f"the column {column!r} has whole numbers with a point, {one} for {one.partition('.')[0]}: they are read as "
        "whole numbers."
    )
    return [row._replace(label=row.label.partition(".")[0]) for row in rows]


def _classes(labels: set[str]) -> list[str]:
    """In numeric order where every label is a whole number, otherwise in order of name.

    Those that write one number in two ways are classes of their own, always in the same order, which is told.
    """
    if not all(label.removeprefix("-").isdecimal() and len(label) < LONGEST_NUMBER for label in labels):
        return sorted(labels)
    ordered = sorted(labels, key=lambda label: (int(label), label))
    alike = next(((one, other) for one, other in pairwise(ordered) if int(one) == int(other)), None)
    if alike is not None:
        tell(f"the labels {alike[0]!r} and {alike[1]!r} are two classes: write them alike if they mean one number.")
    return ordered
