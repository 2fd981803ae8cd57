"""Rows as the tables of a format: each resource once, each row with its person, its code and its refusal."""

from __future__ import annotations

from collections import Counter

import polars as pl

from gnnpatient.readers.fhir.frames import column, day_end, latest_times, utc_times
from gnnpatient.readers.fhir.notes import Notes
from gnnpatient.readers.fhir.reader import Resources
from gnnpatient.readers.fhir.resources import NEVER_KNOWN, NO_FACT, STAYS
from gnnpatient.readers.standard import StandardTables, latest_ordinary

_NO_FACTS = {why for reasons in NO_FACT.values() for why in reasons.values()}


def standard_tables(resources: Resources) -> StandardTables:
    """People and tables of all resources of a folder.

    Parameters
    ----------
    resources : Resources
        What was read.

    Returns
    -------
    StandardTables
        A table a type of resource; times in UTC.
    """
    notes = resources.notes
    names, flags = resources.concepts.names()
    resources.patients.note_servers()
    frames = _without_fillers(_frames(resources, names), notes)
    people = resources.patients.frame(_last_seen(frames))
    tables = {kind: frame.lazy() for kind, frame in frames.items()}
    died = people.lazy().filter(pl.col("death").is_not_null() | (pl.col("deceased") == "yes"))
    tables["Patient"] = died.select(
        "id", pl.col("death").alias("time"), pl.col("death_bare").alias("time_bare"), code=pl.lit("DEATH")
    )
    flags += [f"{n} resource(s) of type {kind} not read" for kind, n in sorted(resources.unread.items())]
    flags += [f"{n} {what}" for what, n in sorted(notes.count.items()) if n]
    return StandardTables(people, tables, (*notes.flags, *flags), utc=True, decides=tuple(notes.decides))


def _frames(resources: Resources, names: list[str | None]) -> dict[str, pl.DataFrame]:
    """The table of each type; encounters come first, as conditions may be known at their end."""
    subjects = [resources.patients.resolve(raw) for raw in resources.events.subjects]
    ids = column("id", [id for id, _ in subjects])
    strays = column("stray", [why for _, why in subjects])
    count = resources.notes.count
    frames: dict[str, pl.DataFrame] = {}
    visits = pl.DataFrame()
    for kind in resources.events.types():
        frame = _identified(kind, resources.events.frame(kind), names, ids, strays)
        frame = _once(frame, count)
        if kind == "Encounter":
            visits = _visits(frame)
        elif kind == "Condition":
            frame = _known_at_discharge(frame, visits, count)
        frames[kind] = _in_columns(kind, frame)
    return frames


def _last_seen(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The latest times of each person; the end of an encounter counts, an end that is planned does not."""
    some = {kind: frame for kind, frame in frames.items() if len(frame)} or frames
    return pl.concat(
        [
            latest_times(frame, name)
            for kind, frame in some.items()
            for name in ("time", "known", "until")[: 2 + (kind == "Encounter")]
        ]
    )


def _without_fillers(frames: dict[str, pl.DataFrame], notes: Notes) -> dict[str, pl.DataFrame]:
    """Ends decades after all that happened, as in 2099-12-31, are not known, nor what was known then."""
    limit = latest_ordinary([f.lazy().filter(pl.col("refused").is_null()) for f in frames.values()])
    for kind, frame in frames.items() if limit is not None else ():
        late = {name: (pl.col(name) > limit).fill_null(False) for name in ("until", "known")}
        ends, knowns = frame.select(rows.sum().alias(name) for name, rows in late.items()).row(0)
        if not ends and not knowns:
            continue
        for what in [f"{ends} end(s)"] * (ends > 0) + [f"{knowns} known time(s)"] * (knowns > 0):
            flag = f"{kind}: {what} lie decades after all other dates; taken as not known"
            notes.flags.append(flag)
            notes.decides.append(flag)
        frames[kind] = frame.with_columns(
            pl.when(late["known"]).then(pl.lit(NEVER_KNOWN)).otherwise("refused").alias("refused"),
            pl.when(~late["until"]).then("until").alias("until"),
            pl.when(~late["until"]).then("until_bare").alias("until_bare"),
        )
    return frames


def _identified(
    kind: str, frame: pl.DataFrame, names: list[str | None], ids: pl.Series, strays: pl.Series
) -> pl.DataFrame:
    """With the person and the code of each row, and the first reason why it cannot be used."""
    prefix = f"{kind.upper()}//"
    codes = pl.Series([None if n is None else prefix + n for n in names], dtype=pl.String)
    return frame.with_columns(
        ids.gather(frame["subject"]).alias("id"),
        codes.gather(frame["concept"]).alias("code"),
        strays.gather(frame["subject"]).alias("stray"),
    ).with_columns(
        pl.coalesce(
            pl.when(pl.col("choice").is_null()).then("refused"),
            "stray",
            pl.when(pl.col("id").is_null()).then(pl.lit("no patient")),
            pl.when(pl.col("code").is_null()).then(pl.lit("no code")),
            "no time",
            "refused",
        ).alias("refused")
    )


def _in_columns(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    """In the columns of every format, and those of FHIR that any row fills."""
    chosen = pl.col("refused").is_in(_NO_FACTS)  # nothing else is wrong
    frame = frame.with_columns(pl.when(chosen).then("choice").alias("choice"))
    times = [name + bare for name in ("time", "known", "until") for bare in ("", "_bare")]
    filled = [name for name in (*NO_FACT, "choice") if frame[name].null_count() < len(frame)]
    others = ("code", "value", "unit", "text", "category", "encounter", "resource", "refused", *filled)
    frame = frame.select("id", *times, *others)
    return frame.rename({"category": "class"}) if kind == "Encounter" else frame


def _visits(encounters: pl.DataFrame) -> pl.DataFrame:
    """Encounters that can be used, each once; `stay`: whether it is an inpatient one."""
    used = encounters.filter(pl.col("refused").is_null() & pl.col("encounter").is_not_null())
    return used.unique(["id", "encounter"], maintain_order=True).select(
        "id",
        "encounter",
        pl.col("time").alias("start"),
        pl.col("until").alias("end"),
        pl.col("until_bare").alias("end_bare"),
        pl.col("category").str.to_uppercase().is_in(STAYS).fill_null(False).alias("stay"),
    )


def _known_at_discharge(frame: pl.DataFrame, visits: pl.DataFrame, count: Counter[str]) -> pl.DataFrame:
    """Diagnoses of an inpatient stay of which nothing says when they were recorded, known at its end.

    A diagnosis without an encounter, or with one that is not there, belongs to the stay that its day lies
    in, of several to the one that ends last.
    """
    free = ~pl.col("recorded") & pl.col("refused").is_null() & pl.col("time").is_not_null()
    rows = frame.with_row_index("nth").filter(free).select("nth", "id", "encounter", "time")
    named = rows.join(visits, on=["id", "encounter"])
    lone = rows.join(visits, on=["id", "encounter"], how="anti")
    dated = lone.join(visits.drop("encounter").drop_nulls("end"), on="id").filter(
        pl.col("time").dt.date().is_between(pl.col("start").dt.date(), pl.col("end").dt.date())
    )
    kept = ["nth", "end", "end_bare", "stay"]
    ends = pl.concat([named.select(kept), dated.select(kept)]).filter("stay")
    ends = ends.group_by("nth").agg(pl.col("end", "end_bare").get(day_end("end").arg_max()))
    frame = frame.with_row_index("nth").join(ends, on="nth", how="left", maintain_order="left")
    later = (day_end("end") > day_end("time")).fill_null(False)
    alone = len(lone) - dated.filter("stay")["nth"].n_unique()
    moved = int(frame.select(later).to_series().sum())
    count["Condition(s) without recordedDate, of no encounter and in no stay: known at onset"] += alone
    count["Condition(s) without recordedDate, in an inpatient stay: known at its end"] += moved
    endless = pl.col("nth").is_in(ends.filter(pl.col("end").is_null())["nth"].implode())
    no_end = pl.lit("inpatient stay without an end")
    return frame.with_columns(
        pl.when(later).then("end").otherwise("known").alias("known"),
        pl.when(later).then("end_bare").otherwise("known_bare").alias("known_bare"),
        pl.when(endless).then(no_end).otherwise("refused").alias("refused"),
    ).drop("nth", "end", "end_bare")


def _once(frame: pl.DataFrame, count: Counter[str]) -> pl.DataFrame:
    """Each resource once: why the rows of its other copies are not used."""
    several = (
        frame.lazy()
        .filter(pl.col("resource").is_not_null())
        .group_by("resource")
        .agg(pl.col("copy").n_unique().alias("n"))
        .filter(pl.col("n") > 1)
        .collect()
    )
    if not len(several):
        return frame
    copies = _copies(frame.join(several, on="resource", how="semi"), count)
    right = pl.col("content") == pl.col("right")
    copies = copies.with_columns(
        pl.when(pl.col("right").is_null())
        .then(pl.lit("versions of a resource disagree"))
        .when(~right)
        .then(pl.lit("older version of a resource"))
        .when(pl.col("copy") != pl.col("copy").filter(right).min().over("resource"))
        .then(pl.lit("repeat of a resource"))
        .alias("repeat")
    )
    for why, n in copies["repeat"].drop_nulls().value_counts().iter_rows():
        count[f"resource(s) refused: {why}"] += n
    frame = frame.join(copies.select("copy", "repeat"), on="copy", how="left", maintain_order="left")
    return frame.with_columns(pl.coalesce("repeat", "refused").alias("refused"))


def _copies(rows: pl.DataFrame, count: Counter[str]) -> pl.DataFrame:
    """A row a copy of a resource: `content` is a number for what it says, `right` that of the newest.

    Null `right`: nothing says which copy is the newest, and they differ.
    """
    content = rows.drop("copy", "version", "subject", "stray")
    copies = (
        rows.select("resource", "copy", "version", content.hash_rows().alias("content") // 65536)
        .group_by("resource", "copy")
        .agg(pl.col("version").first(), pl.col("content").sum())
        .sort("copy")
    )
    stamp, _ = utc_times(copies["version"], count)
    newest = pl.col("at") == pl.col("at").max()
    same = pl.col("content").n_unique() == 1
    dated = pl.col("at").is_not_null().all() & (pl.col("content").filter(newest).n_unique() == 1)
    return copies.with_columns(stamp.alias("at")).with_columns(
        pl.when(same)
        .then(pl.col("content").first())
        .when(dated)
        .then(pl.col("content").filter(newest).first())
        .over("resource")
        .alias("right")
    )
