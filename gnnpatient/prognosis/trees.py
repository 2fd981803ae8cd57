"""Sums of small regression trees as arrays: evaluated and saved without the package that grew them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from gnnpatient.prognosis.aggregates import MISSING

MAX_LEAVES = 8  # of a tree: as many as a byte has bits
CHUNK = 2**21  # trees times rows that are evaluated at once
_LOWEST_BIT = np.array([(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)], np.uint8)


@dataclass(frozen=True, eq=False)
class Trees:
    """Sums of regression trees over columns of bin numbers, each tree of at most eight leaves.

    The leaves that a row may still reach are the bits of a byte [1]_: a split that sends the row to the right
    clears those on its left. The lowest bit that is left when all splits were looked at, in any order, is the
    leaf. So every tree is a row of arrays of one size; a split that is none clears nothing.

    Attributes
    ----------
    output : ndarray
        The sum that each tree belongs to.
    feature : ndarray
        Column of each split.
    threshold : ndarray
        Highest bin that goes to the left.
    missing_left : ndarray
        Whether a missing value goes to the left.
    kept : ndarray
        The leaves that are left where a row goes to the right, as bits.
    value : ndarray
        What each leaf adds.
    start : ndarray
        What each sum starts with.

    References
    ----------
    .. [1] Lucchese C, Nardini FM, Orlando S, Perego R, Tonellotto N, Venturini R. QuickScorer: a fast
       algorithm to rank documents with additive ensembles of regression trees. SIGIR 2015:73-82.
    """

    output: Int[ndarray, " tree"]
    feature: Int[ndarray, "tree split"]
    threshold: UInt8[ndarray, "tree split"]
    missing_left: Bool[ndarray, "tree split"]
    kept: UInt8[ndarray, "tree split"]
    value: Float[ndarray, "tree leaf"]
    start: Float[ndarray, " output"]

    def __len__(self) -> int:
        return len(self.output)

    @classmethod
    def of(cls, model: Any) -> Trees:
        """Copy the trees of a scikit-learn model that was fitted on bin numbers.

        Parameters
        ----------
        model : HistGradientBoostingRegressor or HistGradientBoostingClassifier
            Fitted on bin numbers, nan where a value is missing, with at most eight leaves a tree.

        Returns
        -------
        Trees
        """
        start = np.asarray(model._baseline_prediction, np.float64).ravel()
        trees = [tree.nodes for trees in model._predictors for tree in trees]
        size = np.array([len(tree) for tree in trees])
        nodes, base = np.concatenate(trees), np.append(0, size.cumsum()[:-1])
        tree = np.repeat(np.arange(len(trees)), size)
        leaf = nodes["is_leaf"].astype(bool)
        # nodes come parent first, then all on the left, then all on the right: so do the leaves
        before = np.append(0, leaf.cumsum())[:-1]
        before = before - before[base][tree]
        place = np.where(leaf, before, np.arange(len(nodes)) - base[tree] - before)
        shape = (len(trees), MAX_LEAVES - 1)
        split = (tree[~leaf], place[~leaf])
        low, high = (before[(nodes[side] + base[tree])[~leaf]] for side in ("left", "right"))
        value = np.zeros((len(trees), MAX_LEAVES))
        value[tree[leaf], place[leaf]] = nodes["value"][leaf]
        found = cls(
            np.arange(len(trees)) % len(start),
            np.zeros(shape, np.int64),
            np.full(shape, MISSING - 1, np.uint8),
            np.ones(shape, bool),
            np.full(shape, 255, np.uint8),
            value,
            start,
        )
        found.feature[split] = nodes["feature_idx"][~leaf]
        found.threshold[split] = np.floor(nodes["num_threshold"][~leaf].clip(0, MISSING - 1))
        found.missing_left[split] = nodes["missing_go_to_left"][~leaf]
        found.kept[split] = 255 - ((1 << high) - (1 << low))
        return found

    @classmethod
    def constant(cls, start: Float[ndarray, " output"]) -> Trees:
        """Sums without a tree.

        Parameters
        ----------
        start : ndarray
            What each sum is.

        Returns
        -------
        Trees
        """
        splits = np.zeros((0, MAX_LEAVES - 1), np.uint8)
        none = np.zeros(0, np.int64)
        return cls(none, splits.astype(int), splits, splits > 0, splits, np.zeros((0, MAX_LEAVES)), start)

    @classmethod
    def cat(cls, parts: Sequence[Trees]) -> Trees:
        """Join sums side by side.

        Parameters
        ----------
        parts : sequence of Trees
            At least one.

        Returns
        -------
        Trees
            With the outputs of all, in order.
        """
        first = np.append(0, np.cumsum([len(part.start) for part in parts]))
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        columns["output"] = columns["output"] + np.repeat(first[:-1], [len(part) for part in parts])
        return cls(**columns)

    def first(self, trees: int) -> Trees:
        """The sums of the first trees alone.

        Parameters
        ----------
        trees : int
            How many.

        Returns
        -------
        Trees
        """
        return Trees(
            **{f.name: getattr(self, f.name)[: None if f.name == "start" else trees] for f in fields(self)}
        )

    def leaves(self, bins: UInt8[ndarray, "row column"]) -> UInt8[ndarray, "tree row"]:
        """Find the leaf that each row reaches in each tree, counted from the left.

        Parameters
        ----------
        bins : ndarray
            Bin numbers, `MISSING` where there is none.

        Returns
        -------
        ndarray
        """
        column = np.ascontiguousarray(bins.T)
        open_ = np.full((len(self), len(bins)), 255, np.uint8)
        # a missing value that goes to the left is counted as bin 0, each other bin as one more
        more = self.missing_left.astype(np.uint8)
        for split in range(MAX_LEAVES - 1):
            x = column[self.feature[:, split]] + more[:, split, None]  # 255 + 1 is 0
            left = x <= (self.threshold[:, split] + more[:, split])[:, None]
            open_ &= np.where(left, np.uint8(255), self.kept[:, split, None])
        return _LOWEST_BIT[open_]

    def __call__(self, bins: UInt8[ndarray, "row column"]) -> Float[ndarray, "row output"]:
        """Sum the leaves that each row reaches.

        Parameters
        ----------
        bins : ndarray
            Bin numbers, `MISSING` where there is none.

        Returns
        -------
        ndarray
            float64.
        """
        total = np.repeat(self.start[None], len(bins), 0)
        rows, tree = max(1, CHUNK // max(1, len(self))), np.arange(len(self))[:, None]
        for begin in range(0, len(bins) if len(self) else 0, rows):
            chunk = slice(begin, begin + rows)
            value = self.value[tree, self.leaves(bins[chunk])]
            for output in range(len(self.start)):
                # row by row, so that the order of the sum does not depend on how many rows there are
                total[chunk, output] += np.ascontiguousarray(value[self.output == output].T).sum(1)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name.

        Returns
        -------
        dict of str to Tensor
        """
        return {f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], outputs: int, columns: int) -> Trees:
        """Read what `tensors` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            From `tensors`.
        outputs : int
            How many sums there are.
        columns : int
            How many columns a row has.

        Returns
        -------
        Trees

        Raises
        ------
        KeyError, ValueError
            When they do not fit together.
        """
        like = cls.constant(np.zeros(outputs))
        found = cls(**{f.name: tensors[f.name].numpy() for f in fields(cls)})
        for f in fields(cls):
            array, pattern = getattr(found, f.name), getattr(like, f.name)
            size = (outputs,) if f.name == "start" else (len(found), *pattern.shape[1:])
            if array.dtype != pattern.dtype or array.shape != size:
                raise ValueError(f"trees: {f.name}")
        for array, end in ((found.feature, columns), (found.output, outputs)):
            if array.size and not 0 <= array.min() <= array.max() < end:
                raise ValueError("trees: a column or an output that is not there")
        return found
