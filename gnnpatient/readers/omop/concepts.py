"""Names of concepts, and the codes above them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from gnnpatient.readers.omop.files import Table
from gnnpatient.readers.omop.layout import ANCESTOR, CODED, LAYOUTS, NAMED, Layout


@dataclass(frozen=True, eq=False)
class Names:
    """Concepts that occur and have a name."""

    concept: pl.Series
    name: pl.Series

    def of(self, concept: pl.Expr) -> pl.Expr:
        """The name of a concept, null where it has none."""
        return concept.replace_strict(self.concept, self.name, default=None, return_dtype=pl.String)

    def label(self, concept: pl.Expr) -> pl.Expr:
        """The id of a concept, and its name where it has one."""
        both = self.concept.cast(pl.String) + " " + self.name
        alone = concept.cast(pl.String)
        return concept.replace_strict(self.concept, both, default=alone, return_dtype=pl.String)


def concept_names(tables: list[Table], concepts: Table | None, links: pl.DataFrame | None) -> Names:
    """Of the concepts that occur only: a full vocabulary has millions."""
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
    return pl.coalesce([table.concept(name) for name in layout.concept])


def parent_links(events: dict[str, Table], ancestors: Table | None) -> pl.DataFrame | None:
    """Steps of one level upwards from the concepts that occur: prefix, child, parent (ids)."""
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
