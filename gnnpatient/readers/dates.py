"""Dates and clock times as text, the days of a time zone, and when a day ends."""

from __future__ import annotations

import re
from typing import Literal

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.database import first_line
from gnnpatient.times import DAY

LAST_SECOND = DAY - 1  # seconds from midnight to the moment at which a bare date is known


def parse_dates(cells: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series]:
    """Dates as text, in all forms of `parse_iso`.

    Parameters
    ----------
    cells : polars.Series
        String; null = missing.
    zone : str or None
        Time zone of bare dates and of clock times that name none; None = UTC.

    Returns
    -------
    moments : polars.Series
        Datetime("us"), the first moment of each in UTC; null = missing or no date.
    bare : polars.Series
        Boolean: a date without a clock time.

    Examples
    --------
    >>> cells = pl.Series(["2021-07-01", "2021-07-01T08:00+02:00", "July"])
    >>> moments, bare = parse_dates(cells, "Europe/Berlin")
    >>> [None if moment is None else f"{moment:%m-%d %H:%M}" for moment in moments], bare.to_list()
    (['06-30 22:00', '07-01 06:00', None], [True, False, False])
    """
    local, ahead, bare = parse_iso(cells)
    stamp = utc_moments(local, bare, zone, zone)
    if ahead.null_count() == len(ahead):
        return stamp, bare
    return (local - (ahead * 60_000_000).cast(pl.Duration("us"))).fill_null(stamp), bare


def utc_moments(stamps: pl.Series, bare: pl.Series, zone: str | None, day: str | None) -> pl.Series:
    """The first moment of clock times of one zone and of bare dates of another, in UTC.

    Parameters
    ----------
    stamps : polars.Series
        Datetime or Date, as it is written; one that has a time zone of its own keeps it.
    bare : polars.Series
        Boolean: dates without a clock time.
    zone : str or None
        Time zone of the clock times; None = UTC.
    day : str or None
        Time zone of the days; None = UTC.

    Returns
    -------
    polars.Series
        Datetime("us") in UTC; null where a zone left that moment or day out.
    """
    stamp = local_to_utc(stamps, zone)
    if day is None or not bare.any():
        return stamp
    return stamp.zip_with(~bare, first_second(stamps.dt.replace_time_zone(None).cast(pl.Datetime("us")), day))


def local_to_utc(stamp: pl.Series, zone: str | None) -> pl.Series:
    """Clock times of a time zone in UTC.

    A moment that a change of the clock leaves out is no time; of one that it doubles, the earlier counts.

    Parameters
    ----------
    stamp : polars.Series
        Datetime; one that has a time zone of its own keeps it.
    zone : str or None
        None = UTC.

    Returns
    -------
    polars.Series
        Datetime("us") in UTC.
    """
    return _plain_utc(stamp) if zone is None or _zoned(stamp) else _in_utc(stamp, zone, "earliest")


def first_second(day: pl.Series, zone: str | None) -> pl.Series:
    """The first second of local days, in UTC.

    Parameters
    ----------
    day : polars.Series
        Datetime: midnights without a zone.
    zone : str or None
        Time zone of the days; None = UTC.

    Returns
    -------
    polars.Series
        Datetime; null for a day that the time zone left out, as that of 30 December 2011 in Samoa.
    """
    if zone is None:
        return day
    begun = _in_utc(day, zone, "earliest")
    if begun.null_count() > day.null_count():  # the clock was put forward at midnight
        eve = _in_utc(day.dt.offset_by("-1s"), zone, "latest")
        begun = begun.fill_null(eve.dt.offset_by("1s"))
        begun = begun.set((_local(begun, zone).dt.date() != day.dt.date()).fill_null(False), None)
    return begun


def is_midnight(time: pl.Expr) -> pl.Expr:
    """Whether a moment is at 00:00:00, as a date without a clock time becomes in some formats.

    Parameters
    ----------
    time : polars.Expr
        Datetime.

    Returns
    -------
    polars.Expr
        Boolean, never null.
    """
    return (time.dt.time() == pl.time(0)).fill_null(False)


def end_of_day(time: pl.Expr, bare: pl.Expr) -> pl.Expr:
    """When a moment without a zone has surely passed: a bare date at the last second of its day.

    Parameters
    ----------
    time : polars.Expr
        Datetime; of a bare date its midnight.
    bare : polars.Expr
        Boolean: a date without a clock time.

    Returns
    -------
    polars.Expr
        Datetime.
    """
    return pl.when(bare).then(time + pl.duration(seconds=LAST_SECOND)).otherwise(time)


def end_of_local_day(stamp: pl.Series, bare: pl.Series, zone: str | None) -> pl.Series:
    """When moments in UTC have surely passed: a bare date at the last second of its day in the zone.

    A bare date is given as the first second of its day. A day lasts 23 or 25 hours where the clock is
    changed: it ends a second before the next midnight.

    Parameters
    ----------
    stamp : polars.Series
        Datetime in UTC.
    bare : polars.Series
        Boolean: a date without a clock time.
    zone : str or None
        Time zone of the days; None = UTC.

    Returns
    -------
    polars.Series
        Datetime in UTC.
    """
    last = stamp.dt.offset_by(f"{LAST_SECOND}s")
    if zone is not None:
        late = _local(stamp, zone).dt.truncate("1d").dt.offset_by(f"{LAST_SECOND}s")
        last = _in_utc(late, zone, "latest").fill_null(last)
    return last.zip_with(bare, stamp)


def day_span(cells: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series]:
    """Dates as text: their first and their last second; a clock time is both.

    Parameters
    ----------
    cells : polars.Series
        String, in the forms of `parse_iso`.
    zone : str or None
        Time zone of days, and of clock times that name none; None = UTC.

    Returns
    -------
    first, last : polars.Series
        Datetime in UTC; null = no date.

    Examples
    --------
    >>> first, last = day_span(pl.Series(["2021-03-28"]), "Europe/Berlin")    # the clock is put forward
    >>> (last - first).dt.total_seconds().item() + 1
    82800
    """
    first, bare = parse_dates(cells, zone)
    return first, end_of_local_day(first, bare, zone)


def _zoned(stamp: pl.Series) -> bool:
    return isinstance(stamp.dtype, pl.Datetime) and stamp.dtype.time_zone is not None


def _plain_utc(stamp: pl.Series) -> pl.Series:
    """Without a zone: what has one in UTC, what has none as it stands."""
    stamp = stamp.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if _zoned(stamp) else stamp
    return stamp.cast(pl.Datetime("us"))


def _in_utc(local: pl.Series, zone: str, twice: Literal["earliest", "latest"]) -> pl.Series:
    stamp = local.dt.replace_time_zone(zone, ambiguous=twice, non_existent="null")
    return _plain_utc(stamp)


def _local(stamp: pl.Series, zone: str) -> pl.Series:
    return stamp.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


_ISO = (
    r"^(?P<date>\d{4}-\d\d-\d\d|\d{8})"
    r"(?:[Tt]|\s+)(?P<minute>\d\d:?\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<part>\d+))?)?"
    r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?(?:\[[\w/+-]+\])?$"
)
_ZONE = r"(:\d\d|:\d\d\.\d+)(Z|[+-]\d\d:?\d\d)$"  # the commonest, behind a clock time


def parse_iso(cells: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Dates and clock times as they are written, in ISO 8601 and in what databases make of it.

    2021-03-04 or 20210304; behind it T or a blank and a clock time to the minute, the second or a part of
    it, with a point or a comma; behind that Z, UTC, GMT, +01, +0100 or +01:00, with a blank or not.

    Parameters
    ----------
    cells : polars.Series
        String; null = missing.

    Returns
    -------
    local : polars.Series
        Datetime("us"), what is written; null = neither a date nor a clock time.
    ahead : polars.Series
        Int64, minutes ahead of UTC; null = not said.
    bare : polars.Series
        Boolean: a date without a clock time.
    """
    bare = (cells.str.len_chars() == 10).fill_null(False)
    date = cells.set(~bare, None).str.to_datetime("%Y-%m-%d", strict=False, time_unit="us", exact=True)
    short = cells.str.contains(r"^\d{8}$").fill_null(False)
    if short.any():
        bare = bare | short
        days = cells.set(~short, None).str.to_datetime("%Y%m%d", strict=False, time_unit="us", exact=True)
        date = date.fill_null(days)
    clock = cells.set(bare, None)
    if clock.null_count() == len(clock):  # days alone
        return date, _ahead(clock), bare
    zone = clock.str.extract(_ZONE, 2)
    plain = clock.str.replace(_ZONE, "$1").str.replace(" ", "T", literal=True)
    local = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us", exact=True)
    if local.null_count() > clock.null_count():
        local = local.fill_null(plain.str.to_datetime("%Y-%m-%dT%H:%M", strict=False, time_unit="us"))
    ahead = _ahead(zone)
    local = local.set(zone.is_not_null() & ahead.is_null(), None)
    other = (clock.is_not_null() & local.is_null()).arg_true()
    if len(other):
        slow, further = _forms(clock.gather(other))
        local, ahead = local.scatter(other, slow), ahead.scatter(other, further)
    return date.fill_null(local), ahead, bare


def _forms(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """`parse_iso` of clock times in every form: the local time, and minutes ahead of UTC."""
    parts = cells.str.extract_groups(_ISO).struct
    day = parts.field("date").str.replace_all("-", "", literal=True)
    clock = parts.field("minute").str.replace(":", "", literal=True) + parts.field("second").fill_null("00")
    local = (day + " " + clock).str.to_datetime("%Y%m%d %H%M%S", strict=False, time_unit="us", exact=True)
    part = (parts.field("part").fill_null("") + "000000").str.slice(0, 6).cast(pl.Int64)
    zone = parts.field("zone")
    ahead = _ahead(zone)
    local = (local + part.cast(pl.Duration("us"))).set(zone.is_not_null() & ahead.is_null(), None)
    return local, ahead


def _ahead(zone: pl.Series) -> pl.Series:
    """Minutes ahead of UTC; null where there is no zone, or one of more than 14 hours."""
    if zone.null_count() == len(zone):
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(zone))
    digits = zone.str.replace_all(r"[^0-9]", "").str.pad_end(4, "0")
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60
    minutes = minutes + digits.str.slice(2, 2).cast(pl.Int64, strict=False)
    minutes = minutes.set((minutes > 14 * 60).fill_null(False), None)
    return minutes * zone.str.starts_with("-").fill_null(False).cast(pl.Int64).replace({0: 1, 1: -1})


_CLOCK = re.compile("%[-_0]?[HIklMSRTrXcs+]")  # signs of strptime that say something of the clock time
_DAY = re.compile("%[-_0]?[dejDFvxcs+]")  # of the day


def has_clock(form: str) -> bool:
    """Whether a format of strptime says something of the clock time.

    Parameters
    ----------
    form : str
        The format.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> has_clock("%d.%m.%Y"), has_clock("%d.%m.%Y %H:%M")
    (False, True)
    """
    return _CLOCK.search(form) is not None


def parse_format(cell: pl.Series, form: str, where: str) -> pl.Series:
    """Dates as text in a format of strptime.

    Parameters
    ----------
    cell : polars.Series
        String; null = missing.
    form : str
        The format.
    where : str
        The table and the column, for the message.

    Returns
    -------
    polars.Series
        Datetime("us") as it is written; null = missing, or not in that format.

    Raises
    ------
    InputError
        If the format names no day, or has a sign that strptime does not know.
    """
    if not _DAY.search(form):
        raise InputError(f"{where}: format {form!r} names no day; write whole dates, as in %Y-%m-%d")
    try:
        if has_clock(form):
            return cell.str.to_datetime(form, strict=False, time_unit="us", exact=True)
        return cell.str.to_date(form, strict=False, exact=True).cast(pl.Datetime("us"))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{where}: format {form!r}: {first_line(error)}") from None
