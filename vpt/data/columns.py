"""The column of a table that says which split a row belongs to, whatever it is called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vpt.data.layout import SPLITS
from vpt.errors import VptError, did_you_mean
from vpt.report.notes import first_of, tell

# Columns that are called so and hold something else than splits are mentioned.
LIKE_SPLITS = re.compile(r"split|subset|\bset\b|fold|partition|phase|usage|train|valid|\bval\b|test", re.IGNORECASE)


class Place(NamedTuple):
    """Where a row was read, e.g. the table and "line 7"."""

    table: Path
    row: str

    def __str__(self) -> str:
        return f"{self.table}, {self.row}"


def check_columns(columns: Sequence[str], table: Path) -> list[str]:
    """The names of a table's columns, each of which there is once; those without a name say nothing.

    Raises:
        VptError: two columns have one name, so that either may be meant.
    """
    twice = next((column for column in columns if column and columns.count(column) > 1), None)
    if twice is not None:
        raise VptError(f"{table} has two columns {twice!r}: rename or remove one.")
    return list(columns)


def split_column(asked: str, rows: Sequence[Mapping[str, Any]], others: Sequence[str], table: Path) -> str | None:
    """The column of a table that says train, val or test, or None where there is none.

    It is the one asked for, "split" in any case, or otherwise the only one whose every value is the name of a split, or
    that is called as such columns are and has such a value.

    Args:
        asked: its name; "split" where nobody asked.
        rows: of the table.
        others: columns that are known to hold something else.
        table: for messages.

    Raises:
        VptError: the one asked for is not there, or there are several.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if asked in columns:
        return asked
    if asked != "split":
        raise VptError(f"{table} has no column {asked!r} for splits: {did_you_mean(asked, columns)}")
    free = [column for column in columns if column not in others]
    found = [column for column in free if column.lower() == "split"] or [
        column
        for column in free
        # Called so, one such value is enough, and all others are asked about; called otherwise, all must say it.
        if (any if LIKE_SPLITS.search(column) else all)(_is_split(row.get(column)) for row in rows)
    ]
    if len(found) > 1:
        raise VptError(f"{table} has several columns of splits, {first_of(found)}: set data.split_column to one.")
    unread = [column for column in free if column not in found and LIKE_SPLITS.search(column)]
    if unread:
        tell(f"{table}: not read as splits, as they do not say train, val or test: {first_of(unread)}.")
    if found:
        tell(f"{table}: the column {found[0]!r} says which split a row belongs to.")
    return found[0] if found else None


def split_of(row: Mapping[str, Any], column: str | None, table_of: str, tables: Sequence[str], place: Place) -> str:
    """The split of a row.

    Args:
        row: of a table.
        column: that says it, if any.
        table_of: the split that the table is given for, "train" for the main one.
        tables: splits that have a table.
        place: of the row, for messages.

    Raises:
        VptError: a value is no split, is missing, or is one that another table is given for.
    """
    if column is None:
        return table_of
    if column not in row:
        raise VptError(f"{place} has no {column!r}, and other rows have: say train, val or test.")
    value = str(row[column]).strip()
    if not _is_split(value):
        raise VptError(f"{place}: split {value!r} is not one of train, val and test.")
    split = SPLITS[value.lower()]
    if split != table_of and (table_of != "train" or split in tables):
        raise VptError(f"{place} says {value}, and the table is given for {table_of}: name one table for each split.")
    return split


def _is_split(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in SPLITS
