"""What of a comparison fits into a given time, decided before the first fit.

What is left out comes first from what takes no part in the main question, last from what weakens its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gnnpatient.errors import InputError
from gnnpatient.times import DAY, duration

SCORING = 0.15  # share of the time that is kept for scores and their intervals, measured on PBC
MAX_OVERRUN = 1.2  # times the budget; no fold is begun that would end later
FEW_EPOCHS = 10


@dataclass(frozen=True)
class ComparisonSize:
    """How large a comparison is.

    Attributes
    ----------
    comparators : tuple of str
        Models that are fitted; late fusion, the best unimodal and the marginal model cost nothing more.
    members, epochs : int
        Networks of each model, and their epochs at most.
    inner, folds : int
        Inner folds that choose the best unimodal model, and folds.
    """

    comparators: tuple[str, ...]
    members: int
    epochs: int
    inner: int
    folds: int

    @property
    def unimodal(self) -> int:
        """Number of unimodal models."""
        return sum(name.startswith("only ") for name in self.comparators)


@dataclass(frozen=True)
class FitCost:
    """Seconds of a fit of one member of all node types.

    Attributes
    ----------
    fixed : float
        Whatever its epochs: graphs, vocabulary, the families beside the network.
    epoch : float
        Each epoch of the network.
    """

    fixed: float
    epoch: float

    @classmethod
    def timed(cls, fit: Callable[[int], object], clock: Callable[[], float], epochs: int) -> FitCost:
        """Time two fits of one member, a short one and a longer one.

        Parameters
        ----------
        fit : callable
            Fits with a number of epochs.
        clock : callable
            Gives seconds.
        epochs : int
            Of the longer one, >= 2.

        Returns
        -------
        FitCost
        """
        fit(1)  # loads and caches what later fits find there
        start = clock()
        fit(1)
        middle = clock()
        fit(epochs)
        short, long = middle - start, clock() - middle
        epoch = max(long - short, 0.0) / (epochs - 1)
        return cls(max(short - epoch, 0.0), epoch)

    def of(self, size: ComparisonSize) -> float:
        """Seconds of a whole comparison, at most: no fit stops early.

        Parameters
        ----------
        size : ComparisonSize

        Returns
        -------
        float
        """
        one = size.members * (self.fixed + self.epoch * size.epochs)
        weights = len(size.comparators)
        inner = size.unimodal * (size.inner - 1)  # inner folds, each on its share of the patients
        sizing = weights * (self.fixed + self.epoch)
        return (size.folds * (weights + inner) * one + sizing) / (1 - SCORING)


def smaller(full: ComparisonSize, *, fewer_folds: bool) -> Iterator[ComparisonSize]:
    """The sizes that are tried, from the full one down to the smallest.

    Parameters
    ----------
    full : ComparisonSize
    fewer_folds : bool
        Whether folds may be made fewer: not those of a file.

    Yields
    ------
    ComparisonSize

    Examples
    --------
    >>> full = ComparisonSize(("gnn", "only lab", "only sign", "values"), 3, 20, 3, 4)
    >>> for size in smaller(full, fewer_folds=True):
    ...     print(len(size.comparators), size.members, size.epochs, size.inner, size.folds)
    4 3 20 3 4
    3 3 20 3 4
    3 2 20 3 4
    3 1 20 3 4
    3 1 20 2 4
    3 1 15 2 4
    3 1 15 2 3
    3 1 10 2 3
    3 1 10 2 2
    """
    size = full
    yield size
    main = tuple(name for name in full.comparators if name == "gnn" or name.startswith(("only ", "without ")))
    least = tuple(name for name in main if not name.startswith("without "))
    for change in (
        {"comparators": main},
        {"members": 2},
        {"members": 1},
        {"comparators": least},
        {"inner": 2},
        {"epochs": 15},
        {"folds": 3},
        {"epochs": FEW_EPOCHS},
        {"folds": 2},
    ):
        (what,) = change
        less = replace(size, **change)
        if _magnitude(less, what) < _magnitude(size, what) and (fewer_folds or what != "folds"):
            size = less
            yield size


def _magnitude(size: ComparisonSize, what: str) -> int:
    value = getattr(size, what)
    return len(value) if what == "comparators" else int(value)


def fitting_size(full: ComparisonSize, cost: FitCost, seconds: float, *, fewer_folds: bool) -> ComparisonSize:
    """The largest size that fits into a time.

    Parameters
    ----------
    full : ComparisonSize
    cost : FitCost
    seconds : float
        What is left of the budget.
    fewer_folds : bool
        Whether folds may be made fewer.

    Returns
    -------
    ComparisonSize

    Raises
    ------
    InputError
        When not even the smallest does.
    """
    size = full
    for size in smaller(full, fewer_folds=fewer_folds):
        if cost.of(size) <= seconds:
            return size
    raise InputError(
        f"budget: {max(seconds, 0):.0f} s are left after timing a fit; the smallest comparison takes about "
        f"{cost.of(size):.0f} s here; give more time, or fewer patients or node types"
    )


def cut_sentences(full: ComparisonSize, size: ComparisonSize, seconds: float) -> tuple[str, ...]:
    """Say what was cut, and what that does to the verdict.

    Parameters
    ----------
    full, size : ComparisonSize
        As it would have been, and as it is.
    seconds : float
        The budget.

    Returns
    -------
    tuple of str
        Nothing cut: one sentence that says so.
    """
    within = f"the budget of {duration(seconds / DAY)}"
    gone = [name for name in full.comparators if name not in size.comparators]
    fewer = [
        f"{getattr(size, what)} instead of {getattr(full, what)} {word}"
        for what, word in (
            ("folds", "folds"),
            ("members", "networks a model"),
            ("epochs", "epochs"),
            ("inner", "inner folds"),
        )
        if getattr(size, what) < getattr(full, what)
    ]
    if not gone and not fewer:
        return (f"nothing was cut for {within}",)
    lines = []
    if gone:
        lines.append(f"left out for {within}: {', '.join(gone)}")
    if fewer:
        lines.append(
            f"cut for {within}: {', '.join(fewer)}: the verdict is weaker for it, as a difference may go "
            "unseen; compare again without a budget before you rely on it"
        )
    lines.append("what fits depends on the speed of this machine, so that another run may be cut otherwise")
    return tuple(lines)
