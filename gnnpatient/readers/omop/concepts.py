"""Names of concepts, and the codes above them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from gnnpatient.readers.omop.files import Table
from gnnpatient.readers.omop.layout import ANCESTOR, CODED, LAYOUTS, NAMED, Layout


@dataclass(frozen=True, eq=False)
class Names:
    """Concepts that occur and have a name.

    Attributes
    ----------
    concept : polars.Series
        Int64, their ids.
    name : polars.Series
        String, the name of each.
    """

    concept: pl.Series
    name: pl.Series

    def of(self, concept: pl.Expr) -> pl.Expr:
        """The name of a concept.

        Parameters
        ----------
        concept : polars.Expr
            Ids.

        Returns
        -------
        polars.Expr
            String; null where it has none.
        """
        return concept.replace_strict(self.concept, self.name, default=None, return_dtype=pl.String)

    def label(self, concept: pl.Expr) -> pl.Expr:
        """The id of a concept, and its name where it has one.

        Parameters
        ----------
        concept : polars.Expr
            Ids.

        Returns
        -------
        polars.Expr
            String; null where the id is.
        """
        both = self.concept.cast(pl.String) + " " + self.name
        alone = concept.cast(pl.String)
        return concept.replace_strict(self.concept, both, default=alone, return_dtype=pl.String)


def concept_names(tables: list[Table], concepts: Table | None, links: pl.DataFrame | None) -> Names:
    """Names of the concepts that occur, and of those above them: a full vocabulary has millions.

    Parameters
    ----------
    tables : list of Table
        Where they occur.
    concepts : Table or None
        The table of concepts; None = nothing has a name.
    links : polars.DataFrame or None
        Of `parent_links`.

    Returns
    -------
    Names
        Of several names of one concept the first by the alphabet.
    """
    if concepts is None:
        return Names(pl.Series(dtype=pl.Int64), pl.Series(dtype=pl.String))
    used = [
        table.rows.select(table.concept(name).alias("concept")).unique()
        for table in tables
        for name in sorted(NAMED.intersection(table.types))
    ]
    used += [] if links is None else [links.lazy().select(pl.col("parent").alias("concept"))]
    rows = concepts.rows.select(
        concepts.concept("concept_id").alias("concept"), concepts.word("concept_name").alias("name")
    )
    rows = rows.drop_nulls().join(pl.concat(used), on="concept", how="semi")
    found = rows.group_by("concept").agg(pl.col("name").min()).collect(engine="streaming")
    return Names(found["concept"], found["name"])


def main_concept(table: Table, layout: Layout) -> pl.Expr:
    """What a row of a table is of.

    Parameters
    ----------
    table : Table
        The table.
    layout : Layout
        Which of its columns count.

    Returns
    -------
    polars.Expr
        Int64, the first of these concepts that is not 0; null where none is.
    """
    return pl.coalesce([table.concept(name) for name in layout.concept])


def parent_links(events: dict[str, Table], ancestors: Table | None) -> pl.DataFrame | None:
    """Steps of one level upwards from the concepts that occur.

    Parameters
    ----------
    events : dict of str to Table
        The clinical tables, by name.
    ancestors : Table or None
        The table concept_ancestor.

    Returns
    -------
    polars.DataFrame or None
        Columns `prefix` (of the code), `child`, `parent` (ids of concepts).
    """
    if ancestors is None:
        return None
    upper, lower, level = ANCESTOR
    child, parent = ancestors.concept(lower).alias("child"), ancestors.concept(upper).alias("parent")
    single = ancestors.rows.filter(ancestors.number(level) == 1).select(child, parent).drop_nulls()
    steps = single.filter(pl.col("child") != pl.col("parent")).unique().collect(engine="streaming")
    front = pl.DataFrame(schema={"prefix": pl.String, "child": pl.Int64})
    for name, table in events.items():
        if (layout := LAYOUTS[name]).concept:
            concepts = (
                table.rows.select(main_concept(table, layout).alias("child")).unique().drop_nulls().collect()
            )
            front.vstack(concepts.select(pl.lit(layout.prefix).alias("prefix"), "child"), in_place=True)
    seen, found = front, []
    while len(front):  # a level at a time
        links = front.join(steps, on="child")
        found.append(links.select("prefix", "child", "parent"))
        front = links.select("prefix", child="parent").unique().join(seen, on=["prefix", "child"], how="anti")
        seen = pl.concat([seen, front])
    return pl.concat(found) if found else None


def parent_codes(
    links: pl.DataFrame, events: dict[str, Table], tables: dict[str, pl.LazyFrame], names: Names
) -> pl.DataFrame | None:
    """The hierarchy of the codes that occur.

    Parameters
    ----------
    links : polars.DataFrame
        Of `parent_links`.
    events : dict of str to Table
        The clinical tables, by name.
    tables : dict of str to polars.LazyFrame
        The same in the columns of every format.
    names : Names
        Of concepts.

    Returns
    -------
    polars.DataFrame or None
        Columns `child`, `parent` (codes), sorted; None where there are none.
    """
    code = pl.col("prefix") + "//"
    parts = [
        links.select(
            (code + names.label(pl.col("child"))).alias("child"),
            (code + names.label(pl.col("parent"))).alias("parent"),
        )
    ]
    for name, table in events.items():
        if CODED in table.types:
            main = main_concept(table, LAYOUTS[name])
            plain = (pl.lit(f"{LAYOUTS[name].prefix}//") + names.label(main)).alias("parent")
            rows = tables[name].select(pl.col("code").alias("child"), plain).unique().drop_nulls()
            parts.append(rows.filter(pl.col("child") != pl.col("parent")).collect(engine="streaming"))
    pairs = pl.concat(parts).unique().sort("child", "parent")
    return pairs if len(pairs) else None
