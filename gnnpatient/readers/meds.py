"""MEDS 0.4, the Medical Event Data Standard: a folder of parquet shards, a row an event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.database import first_line
from gnnpatient.readers.dates import end_of_day, is_midnight
from gnnpatient.readers.standard import BOUND, Schema, StandardTables, one_moment_each, refuse_reserved

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"

_WANTED = {  # column: what MEDS has there, in words
    "subject_id": "whole numbers (int64)",
    "time": "timestamps without a time zone",
    "code": "text",
    "numeric_value": "numbers",
    "text_value": "text",
}
_CODELESS = pl.col("code").is_null() | (pl.col("code") == "")
_NEEDED = ("subject_id", "time", "code")
_PEOPLE = frozenset({"id", "birth", "birth_bare", "death", "death_bare", "first", "last", "split"})


def read(folder: Path) -> StandardTables:
    """The shards below `folder`/data (else those in `folder` itself) as one table, "data".

    subject_id becomes `id`, numeric_value `value` (nan = missing), text_value `text`; every other column
    keeps its name. A row without a time stays, with time null. A birth or death at 00:00:00 is a bare date;
    any other event at midnight is taken at its word. A row without a code is `refused`.

    People, by subject_id: `birth`; `death`, where anybody died; `first` and `last`, the moments of the
    first and the last event that is not the birth (a bare date counts at the end of its day; null = nothing
    but a birth); `split`, of subject_splits.parquet. And what has no time: code "A//b" as column A with the
    word b, a code without "//" as a column of its own name with its text_value, else "yes"; a code that
    comes with a number for anybody is a Float64 column of its whole name.

    Parameters
    ----------
    folder : Path
        The folder with data/ and metadata/.

    Returns
    -------
    StandardTables
        People, the table "data", and the parents of codes where codes.parquet has them.

    Raises
    ------
    InputError
        If there is no shard or no row; if a file is not parquet; if a column is missing, is not of the type
        that MEDS says, has a reserved name, or changes its type between shards; if a row has no subject_id;
        if a subject has two births, two deaths, two splits or two values of one untimed code.
    """
    shards = _shards(folder)
    events = _events({shard: _schema(shard) for shard in shards})
    spans, marks, untimed = _collected(events, folder)
    if not len(spans):
        raise InputError(f"{folder}: {len(shards)} shard(s) and no row; nothing to read")
    if spans["subject_id"].null_count():
        raise InputError(_null_subjects(shards))
    flags = []
    if lost := marks["time"].null_count():
        flags.append(f"{lost} {BIRTH} or {DEATH} without a time: no birth or death is taken from them")
    if texts := int(spans["texts"].sum()):
        flags.append(f"{texts} value(s) are text, no number")
    people = spans.select("subject_id", "first", "last")
    for part in (*_births_and_deaths(marks, folder), *_statics(untimed, folder)):
        people = people.join(part, on="subject_id", how="left")
    if (file := folder / "metadata" / "subject_splits.parquet").is_file():
        split = _splits(file)
        if absent := len(split.join(people, on="subject_id", how="anti")):
            flags.append(f"{absent} subject(s) of {file.name} without an event: left out")
        people = people.join(split, on="subject_id", how="left")

    standard = (pl.col("subject_id").cast(pl.String).alias("id"), pl.exclude("subject_id"))
    table = events.select(*standard)
    if spans["codeless"].sum():
        table = table.with_columns(pl.when(_CODELESS).then(pl.lit("no code")).alias("refused"))
    people = people.sort("subject_id").select(*standard)
    parents = _parents(folder / "metadata" / "codes.parquet")
    return StandardTables(people, {"data": table}, tuple(flags), parents)


def _collected(events: pl.LazyFrame, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """In one pass: of each subject the span of the events and counts; births and deaths; what has no time."""
    time, born, died = pl.col("time"), _is(BIRTH), _is(DEATH)
    moment = end_of_day(time, pl.col("time_bare")).filter(~born)
    extra = [name for name in ("value", "text") if name in events.collect_schema()]
    spans = events.group_by("subject_id").agg(
        moment.min().alias("first"),
        moment.max().alias("last"),
        _CODELESS.sum().alias("codeless"),
        _in_text(extra).sum().alias("texts"),
    )
    marks = events.filter(born | died).select("subject_id", "time", "time_bare", born.alias("born"))
    untimed = events.filter(time.is_null(), ~_CODELESS, ~born, ~died).select("subject_id", "code", *extra)
    try:
        found = pl.collect_all([spans, marks, untimed], engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{folder}: {first_line(error)}") from None
    return found[0], found[1], found[2]


def _births_and_deaths(marks: pl.DataFrame, folder: Path) -> Iterator[pl.DataFrame]:
    """By subject_id: birth and birth_bare; death and death_bare, if anybody died."""
    marks = marks.filter(pl.col("time").is_not_null())
    for name, rows in (("birth", marks.filter("born")), ("death", marks.filter(~pl.col("born")))):
        if name == "birth" or len(rows):
            rows = one_moment_each(rows.drop("born"), f"{folder}: MEDS_{name.upper()}", "subject")
            yield rows.rename({"time": name, "time_bare": f"{name}_bare"})


def _is(code: str) -> pl.Expr:
    return ((pl.col("code") == code) | pl.col("code").str.starts_with(f"{code}//")).fill_null(False)


def _in_text(extra: list[str]) -> pl.Expr:
    """Rows in time whose value is in words, and no bound such as <5."""
    if "text" not in extra:
        return pl.lit(False)
    words = pl.col("text")
    in_words = words.is_not_null() & (words.str.strip_chars() != "") & ~words.str.contains(BOUND)
    if "value" in extra:
        in_words = in_words & pl.col("value").is_null()
    return in_words & pl.col("time").is_not_null()


def _shards(folder: Path) -> list[Path]:
    for places in ((folder / "data").rglob("*.parquet"), folder.glob("*.parquet")):
        if shards := sorted(path for path in places if not path.name.startswith(".")):
            return shards
    raise InputError(f"{folder}: no shard; MEDS has data/**/*.parquet here")


def _broken(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: not a whole parquet file ({first_line(error)})")


def _schema(file: Path) -> Schema:
    try:
        return dict(pl.scan_parquet(file, glob=False, hive_partitioning=False).collect_schema())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(file, error) from None


def _fits(name: str, schema: Schema) -> bool:
    dtype = schema[name]
    match name:
        case "subject_id":  # a float would have lost digits of long ids already
            return dtype.is_integer()
        case "time":  # Null: a shard of nothing but untimed rows
            return dtype == pl.Null or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)
        case "code":
            return dtype in (pl.String, pl.Categorical, pl.Enum)
        case "numeric_value":
            return dtype == pl.Null or dtype.is_numeric()
        case _:
            return dtype in (pl.Null, pl.String, pl.Categorical, pl.Enum)


def _events(schemas: dict[Path, Schema]) -> pl.LazyFrame:
    """All shards in the columns of every format, but for subject_id; those alike are scanned together."""
    alike: dict[tuple[tuple[str, Any], ...], list[Path]] = defaultdict(list)
    seen: dict[str, tuple[Any, Path]] = {}
    for shard, schema in schemas.items():
        for name in _NEEDED:
            if name not in schema:
                raise InputError(f"{shard}: no column {name!r}; MEDS needs subject_id, time and code")
        for name, dtype in schema.items():
            if name in _WANTED and not _fits(name, schema):
                raise InputError(f"{shard}: column {name!r} is {dtype}; MEDS has {_WANTED[name]} there")
            other, where = seen.setdefault(name, (dtype, shard))
            joined = pl.Null in (dtype, other) or (dtype.is_numeric() and other.is_numeric())
            if name not in _WANTED and dtype != other and not joined:
                raise InputError(
                    f"{shard}: column {name!r} is {dtype}, but {other} in {where}; make them one"
                )
        refuse_reserved(schema, shard)
        alike[tuple(schema.items())].append(shard)
    midnight = is_midnight(pl.col("time"))
    parts = []
    for schema_, files in alike.items():
        names = [name for name, _ in schema_]
        columns = [
            pl.col("subject_id").cast(pl.Int64),
            pl.col("time").cast(pl.Datetime("us")),
            pl.col("code").cast(pl.String),
        ]
        if "numeric_value" in names:
            columns.append(pl.col("numeric_value").cast(pl.Float64).fill_nan(None).alias("value"))
        if "text_value" in names:
            columns.append(pl.col("text_value").cast(pl.String).alias("text"))
        rows = pl.scan_parquet(files, glob=False, hive_partitioning=False)
        rows = rows.select(*columns, *(name for name in names if name not in _WANTED))
        parts.append(rows.with_columns(((_is(BIRTH) | _is(DEATH)) & midnight).alias("time_bare")))
    return pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]


def _null_subjects(shards: list[Path]) -> str:
    """The first shard with rows that have no subject; looked for only when there is one."""
    null = pl.col("subject_id").null_count()
    counts = {shard: pl.scan_parquet(shard, glob=False).select(null).collect().item() for shard in shards}
    shard = next(shard for shard, count in counts.items() if count)
    return f"{shard}: column 'subject_id' holds {counts[shard]} null(s); every event needs a subject"


def _statics(rows: pl.DataFrame, folder: Path) -> list[pl.DataFrame]:
    """What is known of a subject without a time: a frame of words and one of numbers, by subject_id."""
    code, value = pl.col("code"), pl.col("value")
    name = pl.coalesce(code.str.extract(r"^(.+?)//.+$", 1), code).alias("name")
    word = [code.str.extract(r"^.+?//(.+)$", 1), pl.lit("yes")]
    if "text" in rows.columns:
        word.insert(1, pl.col("text"))
    words, numbers = rows, None
    if "value" in rows.columns:  # a code is one or the other for everybody
        counted = value.is_not_null().any().over("code")
        words, numbers = rows.filter(~counted), rows.filter(value.is_not_null())
    tall = [words.select("subject_id", name, pl.coalesce(word).alias("value"))]
    if numbers is not None:
        tall.append(numbers.select("subject_id", code.alias("name"), "value"))
    used, wide = set(_PEOPLE), []
    for part in tall:
        part = part.unique().sort("name", "subject_id")
        if both := used.intersection(part["name"]):
            raise InputError(
                f"{folder}: untimed code {min(both)!r} has the name of another column; rename it"
            )
        used.update(part["name"])
        repeated = part.filter(pl.len().over("name", "subject_id") > 1)
        if len(repeated):
            which = repeated["name"][0]
            count = repeated.filter(pl.col("name") == which)["subject_id"].n_unique()
            raise InputError(
                f"{folder}: untimed code {which!r}: {count} subject(s) with two values; keep one"
            )
        if len(part):
            wide.append(part.pivot(on="name", index="subject_id", values="value"))
    return wide


def _metadata(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(file, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(file, error) from None


def _splits(file: Path) -> pl.DataFrame:
    table = _metadata(file)
    for name in ("subject_id", "split"):
        if name not in table.columns:
            raise InputError(f"{file}: no column {name!r}; MEDS has subject_id and split there")
    if not table["subject_id"].dtype.is_integer():
        raise InputError(f"{file}: column 'subject_id' is {table['subject_id'].dtype}; MEDS has int64 there")
    table = table.select(pl.col("subject_id").cast(pl.Int64), pl.col("split").cast(pl.String)).unique()
    table = table.drop_nulls("subject_id")
    if repeated := table.filter(pl.len().over("subject_id") > 1)["subject_id"].n_unique():
        raise InputError(f"{file}: column 'split': {repeated} subject(s) in two splits; keep one")
    return table


def _parents(file: Path) -> pl.DataFrame | None:
    """Codes and their parents, as codes.parquet lists them; None where it lists none."""
    if not file.is_file():
        return None
    table = _metadata(file)
    if "parent_codes" not in table.columns or table["parent_codes"].is_null().all():
        return None
    if "code" not in table.columns:
        raise InputError(f"{file}: no column 'code'; MEDS has it beside parent_codes")
    if table["parent_codes"].dtype not in (pl.List(pl.String), pl.List(pl.Null)):
        raise InputError(
            f"{file}: column 'parent_codes' is {table['parent_codes'].dtype}; MEDS has lists of text"
        )
    pairs = table.select(pl.col("code").cast(pl.String).alias("child"), parent="parent_codes")
    pairs = pairs.explode("parent").drop_nulls().unique().sort("child", "parent")
    return pairs if len(pairs) else None
