"""The family "boosted": gradient boosted trees over the history of each code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy import ndarray
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HeadConfig, num_logits
from gnnpatient.model.paths import PathConfig
from gnnpatient.model.values import ProgressionConfig, last_value
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.aggregates import MAX_BINS, MISSING, Aggregates
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.multistate import StatesTarget
from gnnpatient.prognosis.problem import Problem, draw_landmarks
from gnnpatient.prognosis.recurrent import RecurrentTarget
from gnnpatient.prognosis.states import from_states
from gnnpatient.prognosis.targets import LabelsTarget, LabelTarget, SurvivalTarget
from gnnpatient.prognosis.trees import MAX_LEAVES, Trees
from gnnpatient.prognosis.value_boosted import ValueTrees, grow_values
from gnnpatient.prognosis.value_target import ProgressionTarget
from gnnpatient.prognosis.worsening import WorseningTarget

MAX_ROWS = 100_000  # that a member learns from: landmarks times bands
PATIENT_LANDMARKS = 8  # of each patient, drawn anew for each member
POOL_FACTOR, MAX_POOL = 4, 100_000  # landmarks from which is drawn: so many times as many, and at most
MAX_EDGE_LANDMARKS = 8192  # from which the edges of bins are learned
BATCH = 2048  # landmarks whose graphs are built at once
MAX_BANDS = 3  # parts of the time grid within which a relative hazard is constant
LEAF_PATIENTS, LEAF_SHARE = 40, 1 / 12  # of a leaf: so many, or that share of all where they are few
MAX_ROUNDS, PATIENCE = 200, 20
RATE, RIDGE, FEATURE_SHARE = 0.05, 1.0, 0.5
MIN_HAZARD = 1e-5  # of a cause in an interval, for all landmarks together
MAX_SCORE = 8.0  # of the logarithm of a relative hazard


@dataclass(frozen=True, eq=False)
class BoostedHazard:
    """Gradient boosted trees over what is known of each code: last value, mean, spread, slope, counts, times.

    Of a survival outcome the hazard of each cause is that of all landmarks together times a relative hazard,
    the exponential of a sum of trees: a Poisson model of the events in each of a few bands of the time grid,
    given the hazard expected in what was observed of the band [1]_. Of a diagnosis the trees are logits. How
    many trees a member has is decided on patients that it does not learn from, within its own training part;
    none is a candidate.

    Attributes
    ----------
    name : str
        Its key in `families.FAMILIES`.
    aggregates : Aggregates
        The columns and the edges of their bins.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    trees : mapping of str to tuple of Trees
        Of each other outcome those of each member.
    hazards : mapping of str to ndarray
        Of each survival outcome the expected hazards of each member, (member, cause, time).
    bands : mapping of str to ndarray
        Of each survival outcome the band of each interval.
    values : mapping of str to tuple of ValueTrees
        Of each progression those of each member.

    References
    ----------
    .. [1] Friedman M. Piecewise exponential models for survival data with covariates. Annals of Statistics
       10:101-113, 1982.
    """

    name: ClassVar[str] = "boosted"

    aggregates: Aggregates
    heads: Mapping[str, HeadConfig]
    trees: Mapping[str, tuple[Trees, ...]]
    hazards: Mapping[str, Float[ndarray, "member cause time"]]
    bands: Mapping[str, Int[ndarray, " time"]]
    values: Mapping[str, tuple[ValueTrees, ...]] = field(default_factory=dict)

    @property
    def members(self) -> int:
        """How many members there are."""
        return len(next(iter([*self.trees.values(), *self.values.values()])))

    @classmethod
    def fit(cls, problem: Problem) -> BoostedHazard:
        """Fit every member, each on `problem.train(member)` alone.

        Parameters
        ----------
        problem : Problem
            What there is to learn from.

        Returns
        -------
        BoostedHazard
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # small tables are slower on several; and the same bits on any machine
            return cls._fit(problem)

    @classmethod
    def _fit(cls, problem: Problem) -> BoostedHazard:
        rng, members = np.random.default_rng([problem.config.seed, 0]), problem.config.members
        least = problem.config.min_patients
        aggregates, sample = _sample(problem, rng)
        hazards = {
            name: np.stack([_expected(problem, name, member) for member in range(members)])
            for name, target in problem.targets.items()
            if isinstance(target, SurvivalTarget)
        }
        bands = {name: _bands(problem, name) for name in hazards}
        of_values = {n for n, target in problem.targets.items() if isinstance(target, ProgressionTarget)}
        trees: dict[str, list[Trees]] = {name: [] for name in problem.targets if name not in of_values}
        values: dict[str, list[ValueTrees]] = {name: [] for name in of_values}
        for member in range(members):
            drawn = sample.drawn(rng)
            for name, target in problem.targets.items():
                seed = int(rng.integers(2**31))
                learn, stop = (drawn.take(rows, target.known) for rows in problem.stopping(member))
                if isinstance(target, SurvivalTarget):
                    times, of = problem.heads[name].times, (hazards[name][member], bands[name])
                    periods, held = (_person_periods(target, part, times, *of) for part in (learn, stop))
                    grown = _grow_hazards(periods, held, least, seed)
                elif isinstance(target, ProgressionTarget):
                    head = problem.heads[name]
                    assert isinstance(head, ProgressionConfig)
                    line = problem.start(name, problem.train(member))
                    grow = partial(_grow_values, least=least, seed=seed)
                    values[name].append(grow_values(target, head, line, learn, stop, grow, least))
                    continue
                elif isinstance(target, LabelsTarget):
                    share = problem.start(name, problem.train(member))
                    grown = _grow_labels(target, learn, stop, share, least, seed)
                else:
                    assert isinstance(target, LabelTarget)
                    share = problem.start(name, problem.train(member))
                    grown = _grow_classes(target, learn, stop, share, least, seed)
                trees[name].append(grown)
            if problem.progress:
                problem.progress("boosted", member + 1, members)
        grown_values = {name: tuple(values[name]) for name in problem.targets if name in values}
        every = {name: tuple(grown) for name, grown in trees.items()}
        return cls(aggregates, dict(problem.heads), every, hazards, bands, grown_values)

    def forecast(self, graphs: Graphs, members: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Forecast every outcome.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes, on the CPU.
        members : sequence of int, optional
            Which members; default: all.

        Returns
        -------
        dict of str to Tensor
            (member, landmark, 1 + cause, time) log hazards, (member, landmark, class) log probabilities, or
            (member, landmark, label) log odds.
        """
        bins, found = self.aggregates.bins(graphs), {}
        for name, trees in self.trees.items():
            chosen = list(range(len(trees)) if members is None else members)
            sums = Trees.cat([trees[member] for member in chosen])
            if name not in self.hazards:
                logits = torch.from_numpy(sums(bins)).unflatten(1, (len(chosen), -1)).transpose(0, 1)
                labels = self.heads[name].kind == "labels"
                found[name] = (logits if labels else logits.log_softmax(2)).float()
                continue
            bands = self.bands[name]
            scores = [sums(_with_band(bins, np.full(len(bins), band))) for band in range(bands.max() + 1)]
            score = torch.from_numpy(np.stack(scores, 2)[:, :, bands]).clamp(-MAX_SCORE, MAX_SCORE)
            expected = torch.from_numpy(self.hazards[name][chosen])[:, None]
            hazard = expected * score.unflatten(1, (len(chosen), -1)).transpose(0, 1).exp()
            of_paths = isinstance(self.heads[name], PathConfig)
            found[name] = (hazard.log() if of_paths else _log_hazards(hazard)).float()
        for name, grown in self.values.items():
            head = self.heads[name]
            assert isinstance(head, ProgressionConfig)
            last = head.anchored(last_value(graphs, head))
            some = [grown[m] for m in (range(len(grown)) if members is None else members)]
            found[name] = torch.stack([one.log_probabilities(bins, last, head) for one in some])
        return found

    def to(self, device: torch.device) -> None:
        """Trees are evaluated on the CPU.

        Parameters
        ----------
        device : torch.device
            Unused.
        """

    def facts(self) -> dict[str, Any]:
        """How many members there are.

        Returns
        -------
        dict
        """
        return {"members": self.members}

    def tensors(self) -> dict[str, Tensor]:
        """The columns, the trees by outcome and member, and the expected hazards.

        Returns
        -------
        dict of str to Tensor
        """
        found = {f"aggregates.{name}": tensor for name, tensor in self.aggregates.tensors().items()}
        for i, name in enumerate(self.heads):
            grown: Sequence[Trees | ValueTrees] = self.trees.get(name) or self.values[name]
            for member, trees in enumerate(grown):
                found |= {f"{i}.{member}.{part}": tensor for part, tensor in trees.tensors().items()}
            if name in self.hazards:
                found[f"{i}.hazards"] = torch.from_numpy(self.hazards[name])
                found[f"{i}.bands"] = torch.from_numpy(self.bands[name])
        return found

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        vocabulary: Vocabulary,
        bases: Mapping[str, Basis],
        heads: Mapping[str, HeadConfig],
        layers: Mapping[str, type] | None = None,
    ) -> BoostedHazard:
        """Read what `facts` and `tensors` gave.

        Parameters
        ----------
        facts : mapping
            From `facts`.
        tensors : mapping of str to Tensor
            From `tensors`.
        vocabulary : Vocabulary
            Names of the training graphs.
        bases : mapping of str to Basis
            Principal axes of the vectors of each node type.
        heads : mapping of str to HeadConfig
            What is predicted, by outcome.
        layers : mapping of str to type, optional
            Unused.

        Returns
        -------
        BoostedHazard

        Raises
        ------
        KeyError, ValueError
            When they do not fit together.
        """
        aggregates = Aggregates.load(from_states("aggregates", tensors), vocabulary, bases)
        trees, hazards, bands, values = {}, {}, {}, {}
        for i, (name, head) in enumerate(heads.items()):
            if isinstance(head, ProgressionConfig):
                values[name] = tuple(
                    ValueTrees.load(from_states(f"{i}.{member}", tensors), head, len(aggregates))
                    for member in range(facts["members"])
                )
                continue
            outputs, columns = num_logits(head), len(aggregates)
            if head.times:
                columns += 1
                hazards[name], bands[name] = (tensors[f"{i}.{of}"].numpy() for of in ("hazards", "bands"))
                size = (facts["members"], outputs, len(head.times))
                if hazards[name].shape != size or not (hazards[name] > 0).all():
                    raise ValueError(f"hazards of {name!r}")
                if bands[name].shape != size[2:] or not np.isin(bands[name], range(MAX_BANDS)).all():
                    raise ValueError(f"bands of {name!r}")
            trees[name] = tuple(
                Trees.load(from_states(f"{i}.{member}", tensors), outputs, columns)
                for member in range(facts["members"])
            )
        return cls(aggregates, dict(heads), trees, hazards, bands, values)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Some landmarks: position among all, whose each is, how much it counts, and its columns."""

    rows: Int[ndarray, " landmark"]
    patient: Int[ndarray, " landmark"]
    weight: Float[ndarray, " landmark"]
    bins: UInt8[ndarray, "landmark column"]

    def drawn(self, rng: np.random.Generator) -> _Sample:
        """A member's own draw of them, of which it learns from four fifths."""
        rows, weight = draw_landmarks(self.patient, PATIENT_LANDMARKS, MAX_ROWS // MAX_BANDS * 5 // 4, rng)
        return _Sample(self.rows[rows], self.patient[rows], self.weight[rows] * weight, self.bins[rows])

    def take(self, rows: Int[ndarray, " row"], known: ndarray) -> _Sample:
        """Those of them that are among `rows`, and of which something is known."""
        mine = np.isin(self.rows, rows) & known[self.rows]
        return _Sample(self.rows[mine], self.patient[mine], self.weight[mine], self.bins[mine])


def _sample(problem: Problem, rng: np.random.Generator) -> tuple[Aggregates, _Sample]:
    """The columns, and the landmarks that all members learn from: each of those in its training part."""
    X, least = problem.landmarks, problem.config.min_patients
    # of each patient the last landmark, at which there are most rows, and two others as they come
    last, drawn = last_landmarks(X), rng.permutation(len(X))
    some = rng.permutation(len(last))[: MAX_EDGE_LANDMARKS // 2]
    patients, per_patient = np.unique(X.patient[drawn], return_index=True)
    others = X[np.sort(drawn[per_patient[rng.permutation(len(patients))[: MAX_EDGE_LANDMARKS // 2]]])]
    patient = np.concatenate([last.patient[some], others.patient])
    at = Landmarks(X.cohort, patient, np.concatenate([last.at[some], others.at]))
    aggregates = Aggregates.fit(build_graphs(at), patient, problem.vocabulary, problem.bases, least)
    rows, weight = draw_landmarks(X.patient, POOL_FACTOR * PATIENT_LANDMARKS, MAX_POOL, rng)
    weight = weight * problem.counts(np.arange(len(X)))[rows]
    weight = weight * (len(np.unique(X.patient)) / weight.sum())
    bins = [aggregates.bins(build_graphs(X[rows[i : i + BATCH]])) for i in range(0, len(rows), BATCH)]
    return aggregates, _Sample(rows, X.patient[rows], weight, np.concatenate(bins))


def _expected(problem: Problem, name: str, member: int) -> Float[ndarray, "cause time"]:
    """The hazard of each cause, of all landmarks of a member together, summed over each interval."""
    hazard = problem.start(name, problem.train(member)).clip(min=MIN_HAZARD)
    if isinstance(problem.heads[name], PathConfig):
        return hazard
    hazard = hazard.clip(max=1 - MIN_HAZARD)
    total = hazard.sum(0).clip(max=1 - MIN_HAZARD)
    return hazard / hazard.sum(0) * -np.log1p(-total)


def _bands(problem: Problem, name: str) -> Int[ndarray, " time"]:
    """Bands of equally many intervals, which have about equally many events each."""
    size = len(problem.heads[name].times)
    return np.arange(size) * min(MAX_BANDS, size) // size


def _log_hazards(hazard: Float[Tensor, "member landmark cause time"]) -> Tensor:
    """Log probability of staying event-free and of each cause, of the cumulative hazards of each interval."""
    total = hazard.sum(2, keepdim=True)
    return torch.cat([-total, hazard.log() + (torch.expm1(-total) / -total).log()], 2)


def _with_band(
    bins: UInt8[ndarray, "row column"], band: Int[ndarray, " row"]
) -> UInt8[ndarray, "row column_and_band"]:
    return np.concatenate([bins, band[:, None].astype(np.uint8)], 1)


@dataclass(frozen=True, eq=False)
class _Rows:
    """A table to learn from."""

    patient: Int[ndarray, " row"]
    bins: UInt8[ndarray, "row column"]
    target: Shaped[ndarray, "row ..."]
    weight: Float[ndarray, "row ..."]

    def output(self, k: int) -> _Rows:
        """The same with one output."""
        return replace(self, target=self.target[:, k], weight=self.weight[:, k])

    @property
    def x(self) -> Float[ndarray, "row column"]:
        """The bins as numbers, nan where a value is missing."""
        return np.where(self.bins == MISSING, np.nan, self.bins)

    def fit(self, model: Any, **held_out: Any) -> Any:
        """Fit a model of scikit-learn, which takes no column that is missing in every row."""
        x = self.x
        x[:, np.isnan(x).all(0)] = 0.0
        return model.fit(x, self.target, self.weight, **held_out)


def _person_periods(
    target: SurvivalTarget,
    sample: _Sample,
    times: Sequence[float],
    expected: Float[ndarray, "cause time"],
    bands: Int[ndarray, " time"],
) -> _Rows:
    """A row for each landmark and band it was observed in.

    The target is events over expected events, the weight the expected events in what was observed. An
    interval that is cut by censoring counts by the share that was observed, one with the event by the share
    that is expected: then events are as expected where hazards are, however coarse the times. An event of
    which an interval alone is known is shared over that as it is expected there.
    """
    some = target[sample.rows]
    into = np.eye(bands.max() + 1)[bands]  # (time, band)
    if isinstance(some, RecurrentTarget | StatesTarget):
        happened, exposed = (np.einsum("lkt,tb->lbk", part, into) for part in _counted(some, expected))
        return _banded(sample, happened, exposed)
    first = some.between(tuple(times), expected[0]) if isinstance(some, WorseningTarget) else None
    event, time = some.event if first is None else np.where(some.event == 1, 0, some.event), some.time
    end = np.array(times)
    start = np.append(0.0, end[:-1])
    seen = ((time[:, None] - start) / (end - start)).clip(0, 1)  # (landmark, time)
    ended, interval = (event > 0) & (time <= end[-1]), np.searchsorted(end, time.clip(max=end[-1]))
    total = expected.sum(0)
    until_event = 1 / total - 1 / np.expm1(total)  # mean share of an interval before an event in it
    seen[ended, interval[ended]] = until_event[interval[ended]]
    exposure = np.einsum("lt,kt,tb->lbk", seen, expected, into)
    happened = ended[:, None] & (event[:, None] == np.arange(1, 1 + len(expected)))
    count = happened[:, None] & (bands[interval][:, None] == np.arange(into.shape[1]))[:, :, None]
    if first is not None:
        placed, exposed = first
        count = count.astype(np.float64)
        count[:, :, 0], exposure[:, :, 0] = placed @ into, (exposed * expected[0]) @ into
    return _banded(sample, count, exposure)


def _counted(
    target: RecurrentTarget | StatesTarget, expected: Float[ndarray, "cause time"]
) -> tuple[ndarray, ndarray]:
    """Counts, and expected counts: (landmark, transition, time) each."""
    count, exposure = target.columns
    return count.astype(np.float64), exposure * expected


def _banded(sample: _Sample, count: ndarray, exposure: ndarray) -> _Rows:
    """A row for each landmark and band with exposure, of (landmark, band, cause)."""
    landmark, band = np.nonzero(exposure.sum(2) > 0)
    exposure = exposure[landmark, band].clip(min=1e-9)
    return _Rows(
        sample.patient[landmark],
        _with_band(sample.bins[landmark], band),
        count[landmark, band] / exposure,
        exposure * sample.weight[landmark, None],
    )


def _least_rows(patient: Int[ndarray, " row"], least: int) -> int:
    """How many rows a leaf needs, to be of about `LEAF_PATIENTS` and surely of `least` patients."""
    _, count = np.unique(patient, return_counts=True)
    patients = max(least, min(LEAF_PATIENTS, int(len(count) * LEAF_SHARE)))
    # more than the rows of those with the most
    surely = np.sort(count)[::-1][: least - 1].sum() + 1
    return int(max(surely, np.ceil(patients * count.mean())))


def _grow_hazards(learn: _Rows, stop: _Rows, least: int, seed: int) -> Trees:
    """Trees of each cause; none of one of too few patients."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    grow, found = partial(HistGradientBoostingRegressor, loss="poisson"), []
    for k in range(learn.target.shape[1]):
        some = _patients(learn.patient, learn.target[:, k] > 0) >= least and stop.target[:, k].any()
        trees = _grow(grow, learn.output(k), stop.output(k), least, seed + k) if some else None
        found.append(Trees.constant(np.zeros(1)) if trees is None else trees)
    return Trees.cat(found)


def _grow_classes(
    target: LabelTarget, learn: _Sample, stop: _Sample, share: Float[ndarray, " class"], least: int, seed: int
) -> Trees:
    """Trees of the logit of each class; of two classes of the second alone.

    A class of too few patients has none, and its share on average.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    label = target.label[learn.rows]
    several = [_patients(learn.patient, label == k) >= max(least, 1) for k in range(len(share))]
    classes = np.flatnonzero(several)
    learn, stop = (part.take(part.rows, np.isin(target.label, classes)) for part in (learn, stop))

    def table(part: _Sample) -> _Rows:
        label, weight = target.label[part.rows], target.share[part.rows]
        return _Rows(part.patient, part.bins, label, part.weight * weight)

    some = len(classes) > 1 and len(stop.rows) > 0
    trees = _grow(HistGradientBoostingClassifier, table(learn), table(stop), least, seed) if some else None
    if trees is None:
        return Trees.constant(np.log(share.clip(min=MIN_HAZARD)))
    shown = classes if len(classes) > 2 else classes[1:]
    level = np.zeros(len(share))
    level[shown] = trees.start
    rest = share.clip(min=MIN_HAZARD) / share[classes].sum() * np.exp(level[classes]).sum()
    level = np.where(several, level, np.log(rest))
    return replace(trees, output=shown[trees.output], start=level)


def _grow_labels(
    target: LabelsTarget,
    learn: _Sample,
    stop: _Sample,
    share: Float[ndarray, " label"],
    least: int,
    seed: int,
) -> Trees:
    """Trees of the log odds of each label, by the landmarks of which it is known."""
    found = []
    for k, one in enumerate(target.by_label):
        known, held = (part.take(part.rows, one.known) for part in (learn, stop))
        trees = _grow_classes(one, known, held, np.array([1 - share[k], share[k]]), least, seed + k)
        # of two classes the second alone has trees
        found.append(replace(trees, output=np.zeros_like(trees.output), start=np.diff(trees.start)))
    return Trees.cat(found)


def _patients(patient: Int[ndarray, " row"], some: Bool[ndarray, " row"]) -> int:
    return len(np.unique(patient[some]))


def _grow_values(
    learn: Sequence[ndarray], stop: Sequence[ndarray], classes: bool, *, least: int, seed: int
) -> tuple[Trees | None, ndarray]:
    """See `value_boosted.Grow`."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    tables, searched = (_Rows(*learn), _Rows(*stop)), list[Trees]()
    enough = all(len(rows.patient) and (not classes or np.ptp(rows.target) > 0) for rows in tables)
    trees = None
    if enough and len(np.unique(learn[0])) >= 2 * least:
        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        trees = _grow(kind, *tables, least, seed, searched)
    return trees, searched[0](stop[1])[:, 0] if searched else np.zeros(len(stop[0]))


def _grow(
    kind: Callable[..., Any],
    learn: _Rows,
    stop: _Rows,
    least: int,
    seed: int,
    searched: list[Trees] | None = None,
) -> Trees | None:
    """Find on patients of their own how many rounds of trees to grow, then grow them on all; None: none.

    The trees that were grown without those patients are added to `searched`.
    """
    options = {
        "learning_rate": RATE,
        "max_leaf_nodes": MAX_LEAVES,
        "l2_regularization": RIDGE,
        "max_features": FEATURE_SHARE,
        "max_bins": MAX_BINS,
        "categorical_features": None,
        "random_state": seed,
    }
    stopping = {"early_stopping": True, "n_iter_no_change": PATIENCE, "tol": 0.0, "scoring": "loss"}
    size = _least_rows(learn.patient, least)
    model = kind(**options, **stopping, max_iter=MAX_ROUNDS, min_samples_leaf=size)
    held = {"X_val": stop.x, "y_val": stop.target, "sample_weight_val": stop.weight}
    learn.fit(model, **held)
    if not (rounds := int(np.argmax(model.validation_score_))):
        return None
    if searched is not None:
        searched.append(Trees.of(model).first(rounds))
    every = _Rows(*(np.concatenate(p) for p in zip(vars(learn).values(), vars(stop).values(), strict=True)))
    size = _least_rows(every.patient, least)
    model = kind(**options, early_stopping=False, max_iter=rounds, min_samples_leaf=size)
    return Trees.of(every.fit(model))
