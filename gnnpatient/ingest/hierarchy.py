"""Code hierarchies: what a code belongs to, by pairs that come with the data or by its first characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

ATC = (1, 3, 4, 5, 7)  # anatomical group, therapeutic, pharmacological, chemical, substance
ICD = (3, 4, 5)  # category and subcategories, in ICD-10 and ICD-9; an ICD-9 E code has its category at 4


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Codes as a directed graph without cycles, child -> parent; a code may have several parents.

    Attributes
    ----------
    graph : networkx.DiGraph
        Frozen; nodes are codes.

    Examples
    --------
    >>> icd = Hierarchy.by_prefix(["I25.10", "I21.4", "I25"], ICD)
    >>> icd.level(["I25.10", "I21.4", "I25", "unknown"], 1)
    ('I25', 'I21', 'I25', 'unknown')
    """

    graph: nx.DiGraph

    @classmethod
    def from_pairs(
        cls, child: pl.Series | Sequence[str | None], parent: pl.Series | Sequence[str | None]
    ) -> Hierarchy:
        """From two columns. A pair of which one is blank, and a code that is its own parent, are left out.

        Parameters
        ----------
        child, parent : polars.Series or sequence of str
            (pair,) codes; None = blank.

        Returns
        -------
        Hierarchy

        Raises
        ------
        InputError
            When the columns differ in length, do not hold text, or make a cycle.
        """
        try:
            pairs = pl.DataFrame({"child": child, "parent": parent})
            if wrong := [str(kind) for kind in pairs.dtypes if kind not in (pl.String, pl.Null)]:
                raise TypeError(f"a column of {wrong[0]}")
        except (pl.exceptions.PolarsError, TypeError) as error:
            what = str(error).splitlines()[0]
            raise InputError(f"code hierarchy: {what}; give two text columns, child and parent") from None
        pairs = pairs.cast(pl.String)
        blank = pl.any_horizontal(pl.all().fill_null("").str.strip_chars() == "")
        return cls._of(pairs.filter(~blank, pl.col("child") != pl.col("parent")), ())

    @classmethod
    def by_prefix(cls, codes: pl.Series | Sequence[str | None], lengths: Sequence[int]) -> Hierarchy:
        """From the first characters of each code.

        Dots are not counted and stay as they are written: `I25.10` is in `I25.1` is in `I25`, and `I2510` in
        `I251`. Of `DIAGNOSIS//ICD//10//I2510` only what follows the last `//` is the code, and the ancestors
        keep the rest: `DIAGNOSIS//ICD//10//I251`. A code no longer than the least length has no parent.

        Parameters
        ----------
        codes : polars.Series or sequence of str
            The codes; None is left out.
        lengths : sequence of int
            How many characters the ancestors have: `ATC`, `ICD`, or others.

        Returns
        -------
        Hierarchy

        Raises
        ------
        InputError
            When a length is below 1.
        """
        steps = sorted(set(lengths))
        if not steps or steps[0] < 1:
            raise InputError(f"lengths {tuple(lengths)}; must be numbers of characters >= 1, as in (3, 4, 5)")
        code = pl.col("code")
        names = (
            pl.DataFrame({"code": codes}, schema={"code": pl.String}).drop_nulls().unique(maintain_order=True)
        )
        names = names.with_columns(head=code.str.extract(r"(?s)^(.*//)").fill_null(""))
        body = code.str.slice(pl.col("head").str.len_chars())
        size = body.str.replace_all(".", "", literal=True).str.len_chars()
        # From the code down to its shortest prefix: each is a child of the next shorter one.
        chain = [code]
        for n in reversed(steps):
            cut = pl.concat_str("head", body.str.extract(rf"(?s)^((?:\.*[^.]){{{n}}})"))
            chain.append(pl.when(size > n).then(cut).otherwise(chain[-1]))
        links = [
            names.select(child=longer, parent=shorter).filter(pl.col("child") != pl.col("parent"))
            for longer, shorter in pairwise(chain)
        ]
        return cls._of(pl.concat(links), names["code"].to_list())

    @classmethod
    def _of(cls, pairs: pl.DataFrame, alone: Sequence[str]) -> Hierarchy:
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(alone)
        graph.add_edges_from(pairs.unique(maintain_order=True).iter_rows())
        if not nx.is_directed_acyclic_graph(graph):
            cycle = [child for child, _ in nx.find_cycle(graph)]
            raise InputError(
                f"code hierarchy: {min(cycle)!r} is its own ancestor, by a cycle of {len(cycle)} codes; "
                "take out one of the pairs"
            )
        return cls(nx.freeze(graph))

    def ancestors(
        self, codes: pl.Series | Sequence[str | None]
    ) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
        """All pairs of a code and a code above it, sorted.

        A code is no ancestor of itself, and one that the hierarchy does not hold has none.

        Parameters
        ----------
        codes : polars.Series or sequence of str
            The codes.

        Returns
        -------
        code : numpy.ndarray
            (pair,) int64 position in `codes`.
        names : tuple of str
            The ancestors in alphabetical order, each of some code.
        ancestor : numpy.ndarray
            (pair,) int64 position in `names`.
        """
        pairs = self._above(codes)
        names = pairs["name"].unique().sort()
        place = pl.DataFrame({"name": names}).with_row_index("place")
        pairs = pairs.join(place, on="name").select("code", "place")
        rows = (
            _rows(codes)
            .join(pairs, on="code")
            .select(pl.col("row", "place").cast(pl.Int64))
            .sort("row", "place")
        )
        return rows["row"].to_numpy().copy(), tuple(names), rows["place"].to_numpy().copy()

    def level(self, codes: pl.Series | Sequence[str], level: int) -> tuple[str, ...]:
        """Each code, or where it lies deeper than `level`, its ancestor at that depth.

        A code without a parent has depth 1, any other the length of the longest path to it from such a code.
        Of several ancestors at that depth it is the alphabetically first. A code at or above that depth, and
        one that the hierarchy does not hold, stay as they are.

        Parameters
        ----------
        codes : polars.Series or sequence of str
            The codes.
        level : int
            The depth, from 1 on.

        Returns
        -------
        tuple of str
            One for each of `codes`.

        Raises
        ------
        InputError
            When `level` is below 1.
        """
        if level < 1:
            raise InputError(f"level {level}; must be >= 1, the level of codes without a parent")
        at = self._above(codes).join(self._depth.filter(pl.col("depth") == level), on="name")
        place = at.group_by("code").agg(pl.col("name").min())
        deep = self._depth.filter(pl.col("depth") > level).select(code="name").join(place, on="code")
        rows = _rows(codes).join(deep, on="code", how="left", maintain_order="left")
        return tuple(rows.select(pl.coalesce("name", "code")).to_series())

    def _above(self, codes: pl.Series | Sequence[str | None]) -> pl.DataFrame:
        """Columns `code` and `name`, one of its ancestors: each pair once, of the distinct codes."""
        step = _rows(codes).select("code", name="code").unique()
        found = [step.clear()]
        while len(step):  # one generation up, for all codes at once
            step = (
                step.join(self._edges, left_on="name", right_on="child")
                .select("code", name="parent")
                .unique()
            )
            found.append(step)
        return pl.concat(found).unique()

    @cached_property
    def _edges(self) -> pl.DataFrame:
        return pl.DataFrame(list(self.graph.edges), schema=_PAIR, orient="row")

    @cached_property
    def _depth(self) -> pl.DataFrame:
        import networkx as nx

        down: Any = nx.topological_generations(
            self.graph.reverse(copy=False)
        )  # by the longest path from the top
        rows = [(name, depth) for depth, names in enumerate(down, 1) for name in names]
        return pl.DataFrame(rows, schema={"name": pl.String, "depth": pl.Int64}, orient="row")


_PAIR = {"child": pl.String, "parent": pl.String}


def _rows(codes: pl.Series | Sequence[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"code": codes}, schema={"code": pl.String}).with_row_index("row")
