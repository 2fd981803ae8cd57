"""Cells of a table as ids, words, numbers, bounds and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.dates import (
    end_of_local_day,
    first_second,
    has_clock,
    local_to_utc,
    parse_dates,
    parse_format,
    utc_moments,
)
from gnnpatient.readers.standard import POWER, SIGN
from gnnpatient.spec.tables import TimeSpec
from gnnpatient.times import DAY, UNITS, YEAR

YEARS_FROM = 1900  # among dates, a number from here on is a year or a day of a spreadsheet, no offset
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Words that mean missing in a number or a time. In codes, levels, labels, groups and ids only the empty cell
does: NA is sodium."""
LIFETIME = 125 * 366 * DAY  # a time further from the origin than this is a slip, not a time


def _plain(series: pl.Series) -> pl.Series:
    """As strings; whole numbers without the `.0` that pandas gives to a column with gaps; nan is null."""
    if series.dtype == pl.Duration:
        raise InputError(f"column {series.name!r} holds {series.dtype}; write text")
    if series.dtype.is_decimal():
        return series.cast(pl.String).str.replace(r"\.0*$", "")
    if series.dtype.is_float():
        series = series.fill_nan(None)
        integers = series.cast(pl.Int64, strict=False)
        exact = integers.cast(series.dtype) == series
        return series.cast(pl.String).zip_with(~exact.fill_null(False), integers.cast(pl.String))
    return series.cast(pl.String)


def text(series: pl.Series, missing: Iterable[str] = ()) -> pl.Series:
    """Words as they are written.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.
    missing : iterable of str
        Words that mean missing; the empty cell always does.

    Returns
    -------
    polars.Series
        String; null = missing. Whole numbers of a column of floats have no ".0".

    Examples
    --------
    >>> text(pl.Series(["NA", "", "Na "])).to_list(), text(pl.Series([1.0, 2.5, None])).to_list()
    (['NA', None, 'Na '], ['1', '2.5', None])
    """
    series = _plain(series)
    return series.set(series.is_in(["", *missing]), None)


def without_missing(
    series: pl.Series,
    missing: Collection[str],
    points: Callable[[pl.Series], pl.Series] = lambda cells: cells,
) -> pl.Series:
    """Numbers or times without some words: -9 as a number or as text, where -9.0 is -9, too.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.
    missing : collection of str
        Words that mean missing.
    points : callable, optional
        Gives the text of numbers a decimal point; default: they have one.

    Returns
    -------
    polars.Series
        The same type, null where a cell is one of the words.
    """
    if not missing:
        return series
    words = [float(word) for word in missing if re.fullmatch(r"[+-]?\d+(\.\d*)?", word)]
    if series.dtype.is_numeric():
        return series.set(series.cast(pl.Float64).is_in(words).fill_null(False), None)
    if series.dtype != pl.String:
        return series
    cell = series.str.strip_chars()
    gone = cell.is_in(list(missing))
    if words:
        gone = gone | points(cell).cast(pl.Float64, strict=False).is_in(words).fill_null(False)
    return series.set(gone.fill_null(False), None)


def missing_words(series: pl.Series) -> pl.Series:
    """The words of a column of numbers or times that are taken for missing.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.

    Returns
    -------
    polars.Series
        String; null in all other cells.
    """
    if series.dtype != pl.String:
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(series))
    cell = series.str.strip_chars()
    return cell.set(~cell.is_in(MISSING[1:]).fill_null(False), None)


def ids(series: pl.Series) -> pl.Series:
    """Ids as they are written: `1`, `01` and ` 1` are three patients.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.

    Returns
    -------
    polars.Series
        String; null = empty.

    Raises
    ------
    InputError
        If the column holds spans of time.
    """
    series = _plain(series)
    return series.set(series == "", None)


def number(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Cells as numbers.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.

    Returns
    -------
    value : polars.Series
        Float64, finite; null = missing, or no number.
    bad : polars.Series
        Boolean: a cell holds something that is not a finite number.

    Examples
    --------
    >>> value, bad = number(pl.Series(["1.5", "NA", "high", "inf"]))
    >>> value.to_list(), bad.to_list()
    ([1.5, None, None, None], [False, False, True, True])
    """
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        value, invalid = series.cast(pl.Float64), pl.Series([False]).new_from_index(0, len(series))
    else:
        cell = text(series.cast(pl.String).str.strip_chars(), MISSING)
        value = cell.cast(pl.Float64, strict=False)
        same = value.null_count() == cell.null_count()
        invalid = _all_false(len(cell)) if same else cell.is_not_null() & value.is_null()
    if value.is_finite().all():
        return value, invalid
    value = value.set(value.is_nan(), None)
    bad = invalid | value.is_infinite().fill_null(False)
    return value.set(bad, None), bad


@dataclass(frozen=True, eq=False)
class Moments:
    """When each row was, in seconds after its origin; null = missing, or not a time.

    Attributes
    ----------
    at : polars.Series
        Int64, of a bare date the first second of its day.
    end : polars.Series
        Int64, of a bare date the last second of its day, else as `at`.
    bad : polars.Series
        Boolean: a cell that is not a time, or too far from the origin.
    far : polars.Series
        Boolean, those of `bad` that are a time, but too far from the origin.
    dated : polars.Series
        Boolean: a date, not an offset.
    """

    at: pl.Series  # (row,) Int64 seconds
    end: pl.Series  # (row,) Int64 seconds
    bad: pl.Series  # (row,) Boolean
    far: pl.Series  # (row,) Boolean
    dated: pl.Series  # (row,) Boolean

    @property
    def bare(self) -> pl.Series:
        """Whether it is a date without a clock time."""
        return (self.end > self.at).fill_null(False)


_SIDED = rf"{SIGN}([+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+){POWER})\s*$"


def split_bounds(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Cells without the sign of a bound before them, and its side.

    Parameters
    ----------
    cells : polars.Series
        String.

    Returns
    -------
    bare : polars.Series
        String, without the sign.
    side : polars.Series
        Int8: -1 where the truth lies below, 1 above, else 0.

    Examples
    --------
    >>> bare, side = split_bounds(pl.Series(["<5", "> 1,5", "7"]))
    >>> bare.to_list(), side.to_list()
    (['5', '1,5', '7'], [-1, 1, 0])
    """
    sign = cells.str.extract(_SIDED, 1).str.slice(0, 1)
    side = sign.replace_strict(["<", "≤", ">", "≥"], [-1, -1, 1, 1], default=0, return_dtype=pl.Int8)
    return cells.str.extract(_SIDED, 2).fill_null(cells), side.fill_null(0)


def moment(
    series: pl.Series,
    origin: pl.Series | None,
    place: str,
    spec: TimeSpec | None = None,
    bare: pl.Series | None = None,
    line: Callable[[int], int] = lambda row: row + 2,
    doubt: Callable[[str], None] = lambda message: None,
    limit: int | None = LIFETIME,
    utc: bool = False,
) -> Moments:
    """When each row was.

    Numbers and durations are time after the origin; dates are ISO 8601 or written as `spec.format` says.
    Among dates a number from 1900 on is no offset. A bare date is a day of the time zone.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.
    origin : polars.Series or None
        Int64, seconds since 1970 in UTC of each row's day 0; None = there are offsets only.
    place : str
        The table and the column, for messages.
    spec : TimeSpec, optional
        Unit, format and time zone of the table; default: days, ISO 8601, UTC.
    bare : polars.Series, optional
        Boolean: which dates have no clock time, where the type cannot say it.
    line : callable, optional
        The line of the file that a row is on; default: two more than the row.
    doubt : callable, optional
        Gets a sentence of what is read, but looks like a slip.
    limit : int or None
        Seconds from the origin beyond which nothing is a time; default 125 years. None where the dates give
        the origin itself, which may be any.
    utc : bool
        Whether clock times are in UTC, whatever the time zone.

    Returns
    -------
    Moments
        Seconds after the origin.

    Raises
    ------
    InputError
        If a date is ambiguous, as 03/04/2021 is, if there are dates and no origin, or if the format cannot
        be.
    """
    spec = spec or TimeSpec()
    if series.dtype == pl.Duration:
        times = _Times.of_offsets(series.dt.total_microseconds() / 1e6)
    elif series.dtype.is_temporal():
        times = _typed_dates(series, spec, bare, utc)
    elif spec.format is not None:
        times = _formatted_dates(series, spec, spec.format, place)
    else:
        times = _dates_or_offsets(series, spec, place, line, doubt, has_origin=origin is not None)
    return _after_origin(times, origin, spec.timezone, place, limit)


@dataclass(frozen=True, eq=False)
class _Times:
    """The cells of a column before the origin is known: each is a date, an offset or neither."""

    stamp: pl.Series  # Datetime, UTC: of a date its first moment
    bare: pl.Series  # Boolean: a date without a clock time
    offset: pl.Series  # Float64, seconds
    claimed: pl.Series  # Boolean: a cell that is not empty, and no offset

    @classmethod
    def of_offsets(cls, offset: pl.Series) -> _Times:
        none = _all_false(len(offset))
        return cls(_no_stamp(len(offset)), none, offset, none)

    @classmethod
    def of_dates(cls, stamp: pl.Series, bare: pl.Series, claimed: pl.Series) -> _Times:
        return cls(stamp, bare, pl.Series([None], dtype=pl.Float64).new_from_index(0, len(stamp)), claimed)


def _typed_dates(series: pl.Series, spec: TimeSpec, bare: pl.Series | None, utc: bool) -> _Times:
    """A column whose type says that it holds dates."""
    is_date = series.dtype == pl.Date
    flag = _all_false(len(series)) | is_date if bare is None else bare.fill_null(False)
    given = series.cast(pl.Datetime("us")) if is_date else series
    stamp = utc_moments(given, flag, None if utc else spec.timezone, spec.timezone)
    return _Times.of_dates(stamp, flag, series.is_not_null())


def _formatted_dates(series: pl.Series, spec: TimeSpec, form: str, place: str) -> _Times:
    """Dates as text in a format of strptime."""
    cell = series.cast(pl.String).str.strip_chars()
    cell = cell.set(cell.is_in(MISSING), None)
    flag = _all_false(len(series)) | (not has_clock(form))
    stamp = parse_format(cell, form, place)
    stamp = first_second(stamp, spec.timezone) if flag.any() else local_to_utc(stamp, spec.timezone)
    return _Times.of_dates(stamp, flag, cell.is_not_null())


def _dates_or_offsets(
    series: pl.Series,
    spec: TimeSpec,
    place: str,
    line: Callable[[int], int],
    doubt: Callable[[str], None],
    *,
    has_origin: bool,
) -> _Times:
    """Numbers are offsets in the unit of the table, text is ISO 8601."""
    offset, claimed = number(series)
    digits = _digits(offset, spec)
    if digits is None and not claimed.any():  # numbers alone, none of which is a date
        if has_origin and "unit" not in spec.model_fields_set:
            _slip(offset, place, doubt)
        return _Times.of_offsets(offset * UNITS[spec.unit])
    cell = series.cast(pl.String).str.strip_chars().set(~claimed, None)
    if (unclear := cell.str.contains(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}").fill_null(False)).any():
        row = unclear.arg_true()[0]
        if iso := cell.str.contains(r"^\d{4}-\d\d-\d\d").fill_null(False).sum():
            twice = all(int(part) <= 12 for part in re.findall(r"\d+", cell[row])[:2])
            what = "is ambiguous" if twice else "is in another format"
            raise InputError(
                f"{place}, line {line(row)}: {cell[row]!r} {what}, while {iso} are written as 2021-03-04 is; "
                f"a column has one format, so write these {unclear.sum()} in that way, too"
            )
        raise InputError(
            f"{place}, line {line(row)}: {cell[row]!r} is ambiguous; write dates as 2021-03-04, or set "
            "time = { format = ... } of that table, as in '%d/%m/%Y'"
        )
    if digits is not None:
        cell, claimed = cell.fill_null(digits), claimed | digits.is_not_null()
        offset = offset.set(digits.is_not_null(), None)
    stamp, bare = parse_dates(cell, spec.timezone)
    _zones(cell.filter(~bare & stamp.is_not_null()), place, spec, doubt)
    if stamp.is_not_null().any():  # a great number among dates is a year, or a spreadsheet's day
        slip = (offset.abs() >= YEARS_FROM).fill_null(False)
        claimed, offset = claimed | slip, offset.set(slip, None)
    elif has_origin and "unit" not in spec.model_fields_set:
        _slip(offset, place, doubt)
    return _Times(stamp, bare, offset * UNITS[spec.unit], claimed)


def _after_origin(
    times: _Times, origin: pl.Series | None, zone: str | None, place: str, limit: int | None
) -> Moments:
    """Dates and offsets alike in seconds after the origin."""
    dated = times.stamp.is_not_null()
    if origin is None and dated.any():
        raise InputError(f"{place}: holds dates; name the column of day 0 as origin in [patient]")
    at = times.offset.round()
    if origin is not None and dated.any():
        at = at.fill_null((times.stamp.dt.epoch("s") - origin).cast(pl.Float64))
    most = float(limit or 2**52)
    far = ((at > most) | (at < -most)).fill_null(False)
    at = at.set(far, None)
    bad = at.is_null() & (times.offset.is_not_null() | times.claimed)
    end = at = at.cast(pl.Int64)
    if times.bare.any():
        last = end_of_local_day(times.stamp, times.bare, zone)
        end = (at + (last.dt.epoch("s") - times.stamp.dt.epoch("s"))).fill_null(at)
    return Moments(at, end, bad, far, dated)


def count_midnights(series: pl.Series, spec: TimeSpec) -> int:
    """How many clock times a column holds where each of them is midnight, as it is written.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.
    spec : TimeSpec
        How its times are written.

    Returns
    -------
    int
        0 where one of them is not midnight.
    """
    if series.dtype.is_temporal():
        local = series.drop_nulls() if isinstance(series.dtype, pl.Datetime) else series.clear()
    elif spec.format is not None:
        clock = has_clock(spec.format)
        cell = series.cast(pl.String).str.strip_chars()
        local = parse_format(cell, spec.format, series.name).drop_nulls() if clock else series.clear()
    elif series.dtype == pl.String:
        clocks = series.filter(series.str.contains(_STAMP))
        # the first hundred decide most columns
        if len(clocks) and not clocks[:100].str.contains(_MIDNIGHT).all():
            return 0
        return len(clocks) if clocks.str.contains(_MIDNIGHT).all() else 0
    else:
        return 0
    return len(local) if not len(local) or (local.dt.truncate("1d") == local).all() else 0


def holds_offsets(series: pl.Series, form: str, place: str) -> bool:
    """Whether a column of a table with a format holds numbers after day 0 and not one date in that format.

    Parameters
    ----------
    series : polars.Series
        A column, of any type.
    form : str
        The format, of strptime.
    place : str
        The table and the column, for messages.

    Returns
    -------
    bool
        Whether it does.
    """
    if series.null_count() == len(series) or number(series)[1].any():
        return False
    return not parse_format(_plain(series).str.strip_chars(), form, place).is_not_null().any()


def example(spec: TimeSpec) -> str:
    """How a time of a table is written so that it is read.

    Parameters
    ----------
    spec : TimeSpec
        How its times are written.

    Returns
    -------
    str
        For a message.

    Examples
    --------
    >>> example(TimeSpec(format="%d.%m.%Y %H:%M"))
    '04.03.2021 08:30'
    """
    if spec.format is None:
        return "2021-03-04, 2021-03-04 08:30 or 2021-03-04T08:30:00+01:00"
    try:
        return pl.Series([datetime(2021, 3, 4, 8, 30)]).dt.strftime(spec.format)[0]
    except pl.exceptions.PolarsError:  # it names a time zone
        return f"the format {spec.format!r} says"


_STAMP = r"^\s*\d{4}-?\d\d-?\d\d(?:[Tt]|\s+)\d"  # a day and a clock time, of whatever form
_MIDNIGHT = (
    r"^\s*\S{8,10}?(?:[Tt]|\s+)00:?00(?::?00(?:[.,]0+)?)?"
    r"(?:\s*(?:[A-Za-z]+|[+-]\d\d(?::?\d\d)?))?(?:\[.*\])?\s*$"
)


def _digits(numbers: pl.Series, spec: TimeSpec) -> pl.Series | None:
    """Numbers such as 20210304 as text, where most of that size are dates: no offset in days is so long."""
    if "unit" in spec.model_fields_set or not (long := (numbers >= 10_000_101).fill_null(False)).any():
        return None
    integers = numbers.set(~long | (numbers > 99_991_231).fill_null(False), None)
    words = integers.cast(pl.Int64).cast(pl.String).set((integers % 1 != 0).fill_null(False), None)
    dates = words.str.to_datetime("%Y%m%d", strict=False, time_unit="us", exact=True)
    return words if 2 * (len(dates) - dates.null_count()) > int(long.sum()) else None


_ZONE = r"(?i)(Z|UTC|GMT|[+-]\d\d:?(\d\d)?)$"


def names_zone(series: pl.Series) -> bool | None:
    """Whether the clock times of a column name their time zone.

    Parameters
    ----------
    series : polars.Series
        A column of times, of any type.

    Returns
    -------
    bool or None
        None where there are no clock times, or among the first ones some do and some do not.

    Examples
    --------
    >>> names_zone(pl.Series(["2021-03-04 08:00", "2021-03-05"])), names_zone(pl.Series(["1", "2.5"]))
    (False, None)
    """
    if series.dtype != pl.String:
        return series.dtype.time_zone is not None if isinstance(series.dtype, pl.Datetime) else None
    first = series.drop_nulls().head(1000).str.strip_chars()
    zoned = first.filter(first.str.contains(r"^\d{4}-?\d\d-?\d\d.*\d:?\d\d")).str.contains(_ZONE)
    return bool(zoned[0]) if zoned.n_unique() == 1 else None


def _zones(clocks: pl.Series, place: str, spec: TimeSpec, doubt: Callable[[str], None]) -> None:
    """Whether some clock times of a column say their zone and others do not."""
    plain = int((~clocks.str.contains(_ZONE)).sum())
    if 0 < plain < len(clocks):
        read = f"as of {spec.timezone}" if spec.timezone else "as UTC; or set timezone in its time = { ... }"
        doubt(f"{place}: {plain} of {len(clocks)} clock times have no zone, the others have; read {read}")


def _slip(days: pl.Series, place: str, doubt: Callable[[str], None]) -> None:
    """Whether all offsets of a cohort that has dates look like something else."""
    low, high = days.min(), days.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return
    serial = "days of a spreadsheet" if low > 100 * YEAR and high * DAY < LIFETIME else ""
    meaning = "calendar years" if low >= 1900 and high <= 2100 else serial
    if meaning and (days.drop_nulls() % 1 == 0).all():
        doubt(f"{place}: {low:g} to {high:g} look like {meaning}; they are read as days after day 0")


def _all_false(size: int) -> pl.Series:
    return pl.Series([False]).new_from_index(0, size)


def _no_stamp(size: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, size)
