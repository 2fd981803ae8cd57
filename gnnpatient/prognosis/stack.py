"""Who answers: weights of the families, learned from forecasts of patients whom they had not seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.disclosure import counted
from gnnpatient.prognosis.problem import FOLDS
from gnnpatient.prognosis.summary import graph_words
from gnnpatient.prognosis.targets import Target
from gnnpatient.show import listed

MARGINAL = "marginal"  # the forecast without inputs, beside the families
GRAPH = "graph"
PLAIN = ("linear", "boosted")  # whose mean answers where nothing is learned
WITH_EVENT = Target.TEACHING
MIN_EVENT_PATIENTS = 100  # patients with the event below which weights between models are noise
PARTS = 5  # of the patients: the weights of a part's score are learned from the others
STEPS, GAIN = 2000, 1e-9  # of EM at most, and of the mean log-likelihood in a step that goes on
GRID = 1000  # weights are multiples of one over this
DIGITS = 4  # of a mean log-likelihood that is written down
FLOOR = 1e-12  # probability of what a model thought impossible
NORMAL = 1.96  # standard errors on either side of a 95 % interval
MIN_UNITS, MIN_NORMAL_UNITS = 5, 30  # with fewer groups there is no interval, or it is by t


def mixture_step(
    weights: np.ndarray, likelihood: np.ndarray, share: np.ndarray, mixed: np.ndarray | None = None
) -> np.ndarray:
    """One step of EM for the proportions of a mixture [1]_: the likelihood never falls.

    Parameters
    ----------
    weights : ndarray
        (component,), not negative, with sum one.
    likelihood : ndarray
        (landmark, component), the probability that each component gave to what came.
    share : ndarray
        (landmark,), for how much each landmark counts.
    mixed : ndarray, optional
        (landmark,), `likelihood @ weights` where it is at hand.

    Returns
    -------
    ndarray
        (component,), not negative, with sum one.

    References
    ----------
    .. [1] Dempster AP, Laird NM, Rubin DB. Maximum likelihood from incomplete data via the EM algorithm.
       Journal of the Royal Statistical Society B 39:1-38, 1977.
    """
    mixed = likelihood @ weights if mixed is None else mixed
    part: np.ndarray = weights * (likelihood.T @ (share / mixed))
    return part / part.sum()


def mixture_weights(likelihood: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The proportions under which what came is likeliest. The likelihood is concave in them.

    Parameters
    ----------
    likelihood : ndarray
        (landmark, component), the probability that each component gave to what came.
    share : ndarray
        (landmark,), for how much each landmark counts.

    Returns
    -------
    ndarray
        (component,), multiples of a thousandth, not negative, with sum one.

    Examples
    --------
    >>> knows, guesses = np.full(100, 0.8), np.full(100, 0.5)
    >>> mixture_weights(np.stack([knows, guesses], 1), np.ones(100))
    array([1., 0.])
    """
    likelihood = likelihood.clip(FLOOR)
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    mixed, total, before = likelihood @ weights, max(share.sum(), FLOOR), -np.inf
    for _ in range(STEPS):
        weights = mixture_step(weights, likelihood, share, mixed)
        mixed = likelihood @ weights
        reached = float(share @ np.log(mixed)) / total
        if reached - before < GAIN:
            break
        before = reached
    parts = np.round(weights * GRID)
    parts[parts.argmax()] += GRID - parts.sum()
    return parts / GRID


@dataclass(frozen=True, kw_only=True)
class Stack:
    """How much of the answer each family gives, of one outcome, and what that was learned from.

    Attributes
    ----------
    weights : dict of str to float
        By family, ``"marginal"`` the forecast without inputs; not negative, with sum one.
    without_graph : dict of str to float
        The same without the graph; empty where there is no graph, or nothing else.
    learned : bool
        Whether the weights were learned; False: too few patients with the event (of a value: with a later
        one), or one family alone.
    patients : int or str
        Patients with the event whose forecasts out of fold taught the weights.
    log_likelihood : dict of str to float
        Mean log-likelihood a patient, out of fold, of each family, of ``"marginal"``, of ``"stack"`` and
        ``"without_graph"``; empty where it, or the event, or its absence, would be of fewer than
        `min_patients` patients. The weights of the last two were learned from other patients than those they
        are scored on.
    graph_gain : tuple of float or None
        The mean of "stack" minus "without_graph" over patients, with a 95 % interval over units: groups where
        the cohort has them, else patients. None where it is not learned, or of fewer than 5 units.
    causes : dict of str to int or str
        Of `patients` those with each cause, or with each class but the commonest.
    """

    weights: dict[str, float]
    without_graph: dict[str, float]
    learned: bool
    patients: int | str
    log_likelihood: dict[str, float]
    graph_gain: tuple[float, float, float] | None = None
    causes: dict[str, int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for weights in (self.weights, self.without_graph):
            total = sum(weights.values())
            if not all(w >= 0 for w in weights.values()) or (weights and not abs(total - 1) <= 1e-6):
                raise ValueError("weights of a stack")
        if not self.weights:
            raise ValueError("a stack without weights")

    def written(self, least: int) -> dict[str, Any]:
        """The fields as JSON holds them, with the counts as they are written down.

        Parameters
        ----------
        least : int
            Fewest patients that a count may be of.

        Returns
        -------
        dict
        """
        causes = {name: counted(count, least) for name, count in self.causes.items()}
        return asdict(self) | {"patients": counted(self.patients, least), "causes": causes}

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the families, whatever their weights."""
        return tuple(name for name in self.weights if name != MARGINAL)

    def sentences(self, members: int = FOLDS, who: str = WITH_EVENT) -> list[str]:
        """Say where nothing was learned, or little of a cause, and whether the graph adds anything.

        Parameters
        ----------
        members : int
            How often each family was fitted, default 5.
        who : str
            Which patients the weights are learned from, see `Target.TEACHING`.

        Returns
        -------
        list of str
            None where there is one family alone.
        """
        if len(self.families) < 2:
            return []
        lines = []
        if not self.learned:
            why = too_few(self.weights, self.patients, members, who)
            lines.append(f"The weights are not learned: {why}.")
        elif rare := [name for name, count in self.causes.items() if _below(count)]:
            each = listed([f"{count} patients with {name}" for name, count in self.causes.items()])
            lines.append(f"One set of weights, learned from {each}: little is known of {listed(rare)}.")
        if self.without_graph:
            lines.append(f"The graph {self.about_graph}.")
        return lines

    @property
    def about_graph(self) -> str:
        """Whether the graph is shown to add anything, without subject; empty where that is not asked."""
        return graph_words(self.graph_gain) if self.without_graph else ""

    @property
    def graph_helps(self) -> bool:
        """Whether the interval of what the graph adds lies above zero."""
        return self.graph_gain is not None and self.graph_gain[1] > 0

    def chosen(self, families: str | Collection[str] | None) -> dict[str, float]:
        """The weights of an answer by some of the families.

        Parameters
        ----------
        families : str or collection of str or None
            None: all; ``"nograph"``: without the graph, with the weights that were learned without it; else
            names, with their weights in the same proportions as among all, and the same where they have none.

        Returns
        -------
        dict of str to float
            Those that are not zero.

        Raises
        ------
        InputError
            When a family is not there.
        """
        if families is None:
            weights = self.weights
        elif families == "nograph":
            if not (weights := self.without_graph):
                raise InputError("families = 'nograph': there is no other family, or no graph, in this model")
        else:
            names = (families,) if isinstance(families, str) else tuple(families)
            known = {*self.weights, MARGINAL}
            for name in names:
                if name not in known:
                    raise InputError(f"unknown family {name!r}{near(name, sorted(known))}")
            if not names:
                raise InputError("families is empty; name at least one")
            weights = {name: self.weights.get(name, 0.0) for name in names}
            total = sum(weights.values())
            weights = {name: w / total if total else 1 / len(weights) for name, w in weights.items()}
        return {name: weight for name, weight in weights.items() if weight}


def too_few(weights: Mapping[str, float], patients: int | str, members: int, who: str = WITH_EVENT) -> str:
    """Why nothing is learned, and who answers then.

    Parameters
    ----------
    weights : mapping of str to float
        By family, those that are not learned.
    patients : int or str
        Patients with the event that are held out.
    members : int
        How often each family is fitted.
    who : str
        Which patients the weights are learned from, see `Target.TEACHING`; default ``"with the event"``.

    Returns
    -------
    str

    Examples
    --------
    >>> too_few({"linear": 1.0, "graph": 0.0}, 20, 1)
    'that takes 100 patients with the event, and 20 are held out (five members hold out all): linear answers'
    """
    those = [name for name, weight in weights.items() if weight]
    answer = f"{listed(those)} answer in equal parts" if len(those) > 1 else f"{those[0]} answers"
    more = " (five members hold out all)" if members < FOLDS else ""
    needed = f"that takes {MIN_EVENT_PATIENTS} patients {who}"
    held_out = patients if _below(patients) else "fewer"  # 96 is written down as 100
    return f"{needed}, and {held_out} are held out{more}: {answer}"


def _below(count: int | str) -> bool:
    """Whether a count, as it is written down, is of too few to learn weights from."""
    return isinstance(count, str) or count < MIN_EVENT_PATIENTS


def fit_stack(
    likelihood: Mapping[str, np.ndarray],
    patient: np.ndarray,
    share: np.ndarray,
    event: np.ndarray,
    *,
    unit: np.ndarray | None = None,
    causes: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    least: int = 1,
    apart: dict[int, dict[str, float]] | None = None,
) -> Stack:
    """Learn the weights of the families from their forecasts out of fold.

    A patient's landmarks count for one together. It is a composite likelihood: good for weights, not for
    standard errors; the interval of what the graph adds is over units that are drawn as a whole [1]_.

    Parameters
    ----------
    likelihood : mapping of str to ndarray
        Of each family, and of ``"marginal"``, (landmark,) the probability that it gave to what came, without
        having seen the patient. Landmarks of which nothing was seen have 1 everywhere, and count for nothing.
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    share : ndarray
        (landmark,) float64, for how many each landmark stands, see `Target.share`.
    event : ndarray
        (landmark,) bool, see `Target.has_event`.
    unit : ndarray, optional
        (landmark,) int64, the group of each landmark; default: each patient is one.
    causes : mapping of str to ndarray, optional
        Of each cause (landmark,) bool, see `Target.counts`: what is said beside the weights.
    seed : int
        Seed of the parts of the units, default 0.
    least : int
        Fewest patients that a figure may be of to be written down, default 1.
    apart : dict, optional
        Filled with the weights, by patient, that were learned from other patients.

    Returns
    -------
    Stack

    References
    ----------
    .. [1] Cameron AC, Miller DL. A practitioner's guide to cluster-robust inference. Journal of Human
       Resources 50:317-372, 2015.
    """
    families = tuple(name for name in likelihood if name != MARGINAL)
    columns = np.stack(list(likelihood.values()), 1).clip(FLOOR)
    seen = (columns != 1).any(1)
    columns, patient, share = columns[seen], patient[seen], share[seen]
    with_event = len(np.unique(patient[event[seen]]))
    _, first, position = np.unique(patient, return_index=True, return_inverse=True)
    size = len(first)
    drawn = patient if unit is None else unit[seen]
    units, unit = np.unique(drawn[first], return_inverse=True)  # of each patient
    share = share / np.bincount(position)[position]  # of a patient together 1
    learned = len(families) > 1 and with_event >= MIN_EVENT_PATIENTS
    names = tuple(likelihood) if len(families) > 1 else families
    without = tuple(name for name in names if name != GRAPH) if GRAPH in names else ()
    if set(without) <= {MARGINAL}:
        without = ()

    def weights(some: tuple[str, ...], rows: np.ndarray) -> dict[str, float]:
        if not learned:
            return plain_weights(some)
        chosen = [list(likelihood).index(name) for name in some]
        return dict(zip(some, mixture_weights(columns[rows][:, chosen], share[rows]).tolist(), strict=True))

    part = np.random.default_rng(seed).permutation(len(units))[unit][position] % PARTS

    def score(some: tuple[str, ...]) -> np.ndarray:
        """The log-likelihood of each patient under weights learned from the other parts."""
        mixed = np.ones(len(columns))
        for k in range(PARTS):
            learnt = weights(some, part != k)
            if apart is not None and some == names:
                apart.update(dict.fromkeys(np.unique(patient[part == k]).tolist(), learnt))
            mixed[part == k] = sum(
                w * columns[part == k, list(likelihood).index(name)] for name, w in learnt.items()
            )
        return np.bincount(position, share * np.log(mixed), minlength=size)

    every = np.ones(len(columns), bool)
    scores = {
        name: np.bincount(position, share * np.log(columns[:, i]), minlength=size)
        for i, name in enumerate(likelihood)
    }
    if len(families) > 1:
        scores["stack"] = score(names)
    if without:
        scores["without_graph"] = score(without)
    few = any(0 < count < least for count in (with_event, size - with_event))
    written = size >= max(least, 2) and not few
    gain = None
    if written and without and learned and len(units) >= MIN_UNITS:
        gain = _interval(scores["stack"] - scores["without_graph"], unit)
    return Stack(
        weights=weights(names, every),
        without_graph=weights(without, every) if without else {},
        learned=learned,
        patients=with_event,
        log_likelihood={k: round(float(x.mean()), DIGITS) for k, x in scores.items()} if written else {},
        graph_gain=gain,
        causes={name: len(np.unique(patient[had[seen]])) for name, had in (causes or {}).items()},
    )


def _interval(each: np.ndarray, unit: np.ndarray) -> tuple[float, float, float]:
    """Mean over patients with a 95 % interval, where the patients of a unit may be alike."""
    mean, away = each.mean(), np.bincount(unit, each - each.mean())
    units, wide = len(away), NORMAL
    if units < MIN_NORMAL_UNITS:
        from scipy.special import stdtrit

        wide = stdtrit(units - 1, 0.975)
    error = wide * np.sqrt(np.square(away).sum() * units / (units - 1)) / len(each)
    low, middle, high = (round(float(x), DIGITS) for x in (mean - error, mean, mean + error))
    return middle, low, high


def plain_weights(names: Collection[str]) -> dict[str, float]:
    """The mean of linear and boosted, as far as they are there; else of all that is not the marginal.

    Parameters
    ----------
    names : collection of str
        Names of families.

    Returns
    -------
    dict of str to float
    """
    those = [name for name in names if name in PLAIN] or [name for name in names if name != MARGINAL]
    return {name: (name in those) / len(those) for name in names}
