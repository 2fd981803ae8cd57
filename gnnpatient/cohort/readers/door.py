"""What a standard format gives, whichever it is: people, and tables of events in one set of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, eq=False)
class Door:
    """A folder of a standard format as tables. From here on every format goes the same road.

    people: a row a person: `id` (String), then what the format says of a person, as String, Float64 or
        Datetime("us"); a Datetime column X may have a Boolean beside it, X_bare: a date without a clock time.
        `birth` is the moment of birth where it is known.
    tables: by the format's own name, a row an event: `id` (String), `time` (Datetime, null = untimed),
        `code` (String), and where the format has them `time_bare`, `known`, `known_bare`, `until`,
        `until_bare`, `value` (Float64), `unit` (String), `text` (String), and any column of the source by its
        own name.
        `refused` (String): why this row cannot be used; null = it can. `choice` (String): the column that a
        spec may choose a refused row by, in `where`; null = it cannot be used at all.
    parents: code hierarchies that come with the format: columns `child`, `parent` (codes as in `tables`).
    """

    people: pl.DataFrame
    tables: Mapping[str, pl.LazyFrame]
    flags: tuple[str, ...] = ()
    parents: pl.DataFrame | None = None
    doubts: tuple[str, ...] = ()  # flags that may decide a result
