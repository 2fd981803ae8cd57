"""What came of each landmark of a progression: the later values, and at which times one was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Outcome, Progression
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.values import STARTS, ProgressionConfig, hats, pair_weights
from gnnpatient.prognosis.disclosure import HORIZON_STEPS, coarse_shares, pooled, round_time
from gnnpatient.prognosis.forecast import Answer
from gnnpatient.prognosis.targets import Target
from gnnpatient.prognosis.values import ProgressionForecast, unit_of
from gnnpatient.times import DAY

PAIRS = 8  # later values of a landmark that are learned from
TIMES = 7  # after a landmark at which a model answers
BINS, OUTER = 32, 4  # between the ends of most values, and beyond each of them
SHARE_OUTSIDE = 0.01  # of the values, beyond each end
MIN_REMAINING = 20  # patients with a later value at the last time or after it, or a fourth of all
STEADY = 4.0  # weight of a line that is the same at all times, against one for each
SMALLEST_SD = 0.02  # on the scale that is learned on, of which the bins span 5


@dataclass(frozen=True, eq=False)
class ProgressionTarget(Target):
    """What came of each landmark, of one progression of a value.

    Attributes
    ----------
    value : ndarray
        Later values, or changes, of each landmark; nan where there are fewer.
    when : ndarray
        Days after the landmark of each; 0 where there is none.
    last : ndarray
        Last known value; nan where there is none. From `posed`, as the model sees it.
    followed : ndarray
        Whether the landmark is at risk, and observed for a while.
    node : str
        Node type.
    names : tuple of str
        Names of its codes that count.
    unit : str
        Unit of the value.
    spec_target : str
        ``"value"`` or ``"change"``.
    gone : str or None
        The survival outcome that ends it.
    has_end : bool
        Whether the spec says when observation ends.
    head : ProgressionConfig or None
        What is learned of it, from `posed`.
    bins : ndarray or None
        The bin of each later value, -1 where there is none, from `posed`.
    seen : ndarray or None
        Whether a value was seen around each time of `head`, nan where that is not known, from `posed`.
    """

    COUNTED = "with a later"
    INFORMATIVE = "with a later value"
    TEACHING = "with a later value"

    value: np.ndarray  # (landmark, pair) float64
    when: np.ndarray  # (landmark, pair) float64
    last: np.ndarray  # (landmark,) float64
    followed: np.ndarray  # (landmark,) bool
    node: str
    names: tuple[str, ...]
    unit: str
    spec_target: str
    gone: str | None
    has_end: bool
    head: ProgressionConfig | None = None
    bins: np.ndarray | None = None  # (landmark, pair) int64
    seen: np.ndarray | None = None  # (landmark, time) float64

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> ProgressionTarget:
        """Read a progression at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        ProgressionTarget
        """
        outcome = cast(Progression, landmarks.cohort.outcomes_with_model([name])[name])
        patient, at, risk = landmarks.patient, landmarks.at, landmarks.at_risk(name)
        last = outcome.baseline(patient, at)
        value, when = later_values(outcome, landmarks, risk, last)
        followed = risk & (outcome.followed_until(patient, at) > at)
        names = landmarks.cohort.codes[outcome.spec.node]
        return cls(
            value,
            when,
            last,
            followed,
            outcome.spec.node,
            tuple(names[code] for code in np.flatnonzero(outcome.code)),
            unit_of(landmarks, name),
            outcome.spec.target,
            outcome.spec.gone if _anybody_gone(outcome, patient[risk], at[risk]) else None,
            outcome.has_end,
        )

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> ProgressionTarget:
        """Refuse: later values are read from the rows.

        Parameters
        ----------
        outcome : Outcome
            Unused.
        y : ndarray
            Unused.
        size : int
            Unused.

        Returns
        -------
        ProgressionTarget

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("y: a progression is learned from the later rows of X; leave y out")

    def posed(self, head: HeadConfig, landmarks: Landmarks, name: str, least: int = 1) -> ProgressionTarget:
        """The same on the bins and at the times of a head.

        Parameters
        ----------
        head : ProgressionConfig
            What is learned of it.
        landmarks : Landmarks
            Those of this target, as the model sees them.
        name : str
            Name of the outcome.
        least : int
            Unused.

        Returns
        -------
        ProgressionTarget
            With the last values as the model will see them when it is asked: of the codes of the head alone,
            and none where their node type is hidden.
        """
        config = cast(ProgressionConfig, head)
        outcome = cast(Progression, landmarks.cohort.outcomes[name])
        risk = landmarks.at_risk(name)
        value, when = later_values(outcome, landmarks, risk, self.last, config.times[-1])
        edges = np.array(config.edges)[1:-1]
        bins = np.where(np.isfinite(value), np.searchsorted(edges, np.nan_to_num(value), "right"), -1)
        seen = np.stack(
            [outcome.seen_around(landmarks.patient, landmarks.at, round(t * DAY)) for t in config.times], 1
        )
        seen[~self.followed] = np.nan
        names = np.array(landmarks.cohort.codes[self.node])
        shown = replace(outcome, code=np.isin(names, config.codes), events=landmarks.cohort.events[self.node])
        last = shown.baseline(landmarks.patient, landmarks.at)
        return replace(self, value=value, when=when, last=last, head=config, bins=bins, seen=seen)

    @property
    def has_value(self) -> np.ndarray:
        """Which landmarks have a later value, within the last time where that is chosen: (landmark,) bool."""
        there = np.isfinite(self.value) if self.bins is None else self.bins >= 0
        return np.asarray(there.any(1))

    def shares(self, times: Sequence[float]) -> np.ndarray:
        """The share that each time has in each later value, see `hats`.

        Parameters
        ----------
        times : sequence of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark, pair, time) float64; 0 where there is no value.
        """
        assert self.bins is not None
        return np.where((self.bins >= 0)[..., None], hats(times, self.when), 0.0)

    def pair_weights(self, times: Sequence[float]) -> np.ndarray:
        """How much each later value counts, see `gnnpatient.model.values.pair_weights`.

        Parameters
        ----------
        times : sequence of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark, pair) float64.
        """
        return pair_weights(self.shares(times))

    @property
    def known(self) -> np.ndarray:
        """Which landmarks are followed: (landmark,) bool."""
        return self.followed | self.has_value

    @property
    def tells(self) -> np.ndarray:
        """Which landmarks have a later value; of others nothing is known but that none was seen."""
        return self.has_value

    @property
    def strata(self) -> np.ndarray:
        """Zeros: nothing is spread evenly for it."""
        return np.zeros(len(self.last), np.int64)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Bins, their days, and what was seen, as `ProgressionHead.loss` takes them."""
        assert self.bins is not None and self.seen is not None
        return self.bins, self.when, self.seen

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks with a later value: (landmark,) bool."""
        return {"value": self.has_value}

    def __getitem__(self, rows: np.ndarray) -> ProgressionTarget:
        each = ("value", "when", "last", "followed", "bins", "seen")
        parts: dict[str, Any] = {name: getattr(self, name) for name in each}
        parts = {name: None if part is None else part[rows] for name, part in parts.items()}
        return replace(self, **parts)

    def check(self, name: str) -> None:
        """Check that there are later values.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When no landmark has one.
        """
        if not self.has_value.any():
            raise InputError(
                f"outcome {name!r}: no later value of {', '.join(self.names)} after {len(self.last)} "
                "landmarks; nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Count the patients with a later value.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """
        return len(np.unique(patient[self.has_value]))

    def has_event(self, times: tuple[float, ...]) -> np.ndarray:
        """Which landmarks have a later value.

        Parameters
        ----------
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return self.has_value

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> ProgressionConfig:
        """Choose the times, the scale and the bins, none of fewer than `least` patients.

        Parameters
        ----------
        name : str
            Name of the outcome, for messages.
        landmarks : Landmarks
            The training landmarks.
        horizon : float or None
            Days up to which to forecast at most; None: while 20 patients have a later value.
        num_times : int
            Unused: seven times at most.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ProgressionConfig

        Raises
        ------
        InputError
            When fewer than `least` patients have a later value within the horizon, or it is not above 0.
        """
        if horizon is not None and not horizon > 0:
            raise InputError(f"horizon {horizon:g} days; must be > 0, days after the landmark")
        patient = landmarks.patient
        value, when = self.value, self.when
        end = _last_time(np.where(np.isfinite(value), when, 0.0).max(1), patient, least)
        end = min(end, horizon or np.inf)
        there = np.isfinite(value) & (when <= end)
        patients = len(np.unique(patient[there.any(1)]))
        if patients < max(least, 2):
            raise InputError(
                f"outcome {name!r}: {patients} patients have a value within {end:g} days after a landmark; "
                f"{max(least, 2)} are needed (min_patients), or leave this outcome out"
            )
        owner = np.repeat(patient[:, None], value.shape[1], 1)[there]
        value, when = value[there], when[there]
        log = bool(self.spec_target == "value" and is_skewed(value))
        edges = _edges(value, owner, log, least)
        given = self.last > 0 if log else np.isfinite(self.last)
        levels = np.log(self.last[given]) if log else self.last[given]
        low, high = _ends(levels, patient[given], least) if len(levels) else (0.0, 1.0)
        width = _digits(max((high - low) / 4, 1e-6 * max(abs(low), 1.0)))
        step = 10.0 ** np.floor(np.log10(width))
        anchor = (_digits(float(np.round((low + high) / 2 / step) * step), 7), width)
        codes = self._common(landmarks, least)
        return ProgressionConfig(
            node=self.node,
            codes=codes,
            unit=self.unit,
            target="change" if self.spec_target == "change" else "value",
            gone=self.gone,
            times=value_times(when, owner, end, least),
            edges=edges,
            log=log,
            anchor=anchor,
            has_end=self.has_end,
        )

    def _common(self, landmarks: Landmarks, least: int) -> tuple[str, ...]:
        """The codes that enough patients have."""
        events, names = landmarks.cohort.events[self.node], landmarks.cohort.codes[self.node]
        mine = np.isin(events.patient, np.unique(landmarks.patient))
        found = tuple(
            name
            for name in self.names
            if len(np.unique(events.patient[mine & (events.code == names.index(name))])) >= least
        )
        return found or self.names[:1]

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Share of landmarks with a value around each time, and the distribution of the values then.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (1 + bin, time) float64; slot 0 that a value is seen, the others sum to one.
        """
        assert self.head is not None and self.bins is not None and self.seen is not None
        weight = landmark_weights(moments)
        known = np.isfinite(self.seen)
        total = (weight[:, None] * known).sum(0)
        share = (weight[:, None] * np.nan_to_num(self.seen)).sum(0) / total.clip(min=1e-12)
        overall = (weight[:, None] * np.nan_to_num(self.seen)).sum() / max(total.sum(), 1e-12)
        share = np.where(total > 0, share, overall)
        row, pair = np.nonzero(self.bins >= 0)
        near = self.shares(times)
        near = near / np.maximum(near.sum(1, keepdims=True), 1.0)  # see `pair_weights`
        table = np.zeros(self.head.shape)
        np.add.at(table[1:], self.bins[row, pair], weight[row, None] * near[row, pair])
        every = table[1:].sum(1) / max(table[1:].sum(), 1e-12)
        # at a time with few values, mostly those of all times
        some = table[1:].sum() / len(times) / 4
        table[1:] += some * every[:, None]
        table[1:] /= table[1:].sum(0)
        table[0] = share
        return table

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """A `marginal` as it is written down: it has steps where enough patients lie between.

        Parameters
        ----------
        table : ndarray
            From `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Those of `table`.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            Like `table`.
        """
        assert self.bins is not None and self.seen is not None
        if least <= 1:
            return table
        found, size = table.copy(), len(table) - 1
        row, pair = np.nonzero(self.bins >= 0)
        near = hats(times, self.when[row, pair]).argmax(1)
        for k in range(len(times)):
            label = np.where(np.isfinite(self.seen[:, k]), np.nan_to_num(self.seen[:, k]), -1).astype(int)
            found[0, k] = coarse_shares(np.array([1 - table[0, k], table[0, k]]), label, patient, least)[1]
            mine = near == k
            if len(np.unique(patient[row[mine]])) < least:
                mine = np.ones(len(row), bool)
                upto = table[1:].mean(1).cumsum()
            else:
                upto = table[1:, k].cumsum()
            ends = np.array(pooled(self.bins[row[mine], pair[mine]], patient[row[mine]], size, least))
            steps = np.interp(np.arange(1, size + 1), [0.0, *(1 + ends)], [0.0, *upto[ends]])
            found[1:, k] = np.diff(steps / steps[-1], prepend=0.0)
        return found

    def rounded(self, table: np.ndarray) -> np.ndarray:
        """A table to four digits, whose bins sum to one.

        Parameters
        ----------
        table : ndarray
            (1 + bin, time), from `disclosed`.

        Returns
        -------
        ndarray
        """
        table = table.round(4)
        for column in table.T:
            column[1 + column[1:].argmax()] += 1 - column[1:].sum()
        return table

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """A line through the last values for each time, close to one for all; the spread, the share seen.

        Parameters
        ----------
        marginal : ndarray
            (1 + bin, time), from `marginal`.

        Returns
        -------
        ndarray
            (start, time), see `gnnpatient.model.values.STARTS`.
        """
        assert self.head is not None and self.bins is not None
        head, found = self.head, self.nothing
        found[4] = np.log((marginal[0].clip(1e-3, 1 - 1e-3)) / (1 - marginal[0].clip(1e-3, 1 - 1e-3)))
        row, pair = np.nonzero(self.bins >= 0)
        if not len(row):
            return found
        z = head.scaled(self.value[row, pair])
        share = hats(head.times, self.when[row, pair])
        weight = self.pair_weights(head.times)[row, pair]
        line = np.concatenate([np.ones((len(row), 1)), head.anchored(self.last[row])], 1)
        k = len(head.times)
        own = (line[:, :, None] * share[:, None]).reshape(len(row), -1)
        x = np.concatenate([line, own], 1)
        penalty = np.concatenate([[1e-3, 1e-1, 1.0], np.full(3 * k, STEADY)])
        gram = (x * weight[:, None]).T @ x + np.diag(penalty)
        solution = np.linalg.solve(gram, (x * weight[:, None]).T @ z)
        found[:3] = solution[:3, None] + solution[3:].reshape(3, k)
        square = (z - x @ solution) ** 2
        overall = (weight @ square) / weight.sum()
        mass = weight @ share
        found[3] = np.log(
            np.sqrt((((weight * square) @ share) + STEADY * overall) / (mass + STEADY)).clip(min=SMALLEST_SD)
        )
        return found

    @property
    def nothing(self) -> np.ndarray:
        """What a head starts with where nothing may be learned: the bins alone say where values lie."""
        assert self.head is not None
        return np.zeros((len(STARTS), len(self.head.times)))

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability of the bin of each later value of each landmark, given that it was seen.

        Parameters
        ----------
        prediction : ndarray
            (landmark, 1 + bin, time), the probabilities.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark, pair) float64; 1 where no value was seen.
        """
        assert self.bins is not None
        rows, pair = np.nonzero(self.bins >= 0)
        found = np.ones(self.bins.shape)
        share = hats(times, self.when[rows, pair])
        found[rows, pair] = (prediction[rows, 1 + self.bins[rows, pair]] * share).sum(1)
        return found

    def importance(self, times: tuple[float, ...] = ()) -> np.ndarray:
        """For how much each probability of `likelihood` counts: a landmark once at each time.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark, pair) float64.
        """
        return self.share[:, None] * self.pair_weights(times)

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score the distribution of the later values by the ranked probability score [1]_.

        A landmark counts once at each time, however many values it has there.

        Parameters
        ----------
        forecast : ProgressionForecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, 1 + bin, time), the forecast without inputs.
        cause : str, optional
            Unused.

        Returns
        -------
        list of float
            One number, or none where no value was seen.

        References
        ----------
        .. [1] Epstein ES. A scoring system for probability forecasts of ranked categories. Journal of Applied
           Meteorology 8:985-987, 1969.
        """
        course = cast(ProgressionForecast, forecast)
        inside = np.isfinite(self.value) & (self.when <= course.times[-1])
        bins = np.searchsorted(course.edges[1:-1], np.nan_to_num(self.value), "right")
        mine = replace(self, bins=np.where(inside, bins, -1))
        rows, pair = np.nonzero(inside)
        weight = mine.pair_weights(tuple(course.times.tolist()))[rows, pair]
        if not len(rows):
            return []
        share = hats(tuple(course.times.tolist()), self.when[rows, pair])
        reached = bins[rows, pair][:, None] <= np.arange(len(course.edges) - 1)
        place = np.cumsum(self.known)[rows] - 1  # among the known landmarks

        def error(p: np.ndarray) -> float:
            """Squared distance between distribution functions, summed over bins."""
            upto = np.einsum("lbt,lt->lb", p, share).cumsum(1)
            return float(weight @ np.square(upto - reached).sum(1))

        null_error = error(null[place][:, 1:])
        return [1 - error(course.probability[rows]) / null_error] if null_error else []


def later_values(
    outcome: Progression, landmarks: Landmarks, risk: np.ndarray, last: np.ndarray, end: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Give later values, or changes, up to an end: the first, the last, and others between, eight at most.

    Parameters
    ----------
    outcome : Progression
        Whose values.
    landmarks : Landmarks
        Patients at prediction times.
    risk : ndarray
        (landmark,) bool, which of them count.
    last : ndarray
        (landmark,) float64, the last known value, from which a change is reckoned.
    end : float
        Days after the landmark, default: no end.

    Returns
    -------
    tuple of ndarray
        The values, and their days after the landmark: (landmark, pair) float64; nan and 0 where there are
        fewer.
    """
    owner, after, found = outcome.later(landmarks.patient, landmarks.at)
    kept = risk[owner] & (after <= end * DAY)
    owner, after, found = owner[kept], after[kept] / DAY, found[kept]
    if outcome.spec.target == "change":
        found = found - last[owner]
    size = np.bincount(owner, minlength=len(landmarks))
    rank = np.arange(len(owner)) - np.repeat(size.cumsum() - size, size)
    few = np.minimum(size, PAIRS)[owner]
    place = np.floor(rank * few / size[owner].clip(min=1) + 1e-9).astype(int)
    place = np.where(rank == size[owner] - 1, few - 1, place)
    first = np.ones(len(owner), bool)
    first[1:] = (owner[1:] != owner[:-1]) | (place[1:] != place[:-1])
    value, when = np.full((len(landmarks), PAIRS), np.nan), np.zeros((len(landmarks), PAIRS))
    value[owner[first], place[first]] = found[first]
    when[owner[first], place[first]] = after[first]
    return value, when


def _anybody_gone(outcome: Progression, patient: np.ndarray, at: np.ndarray) -> bool:
    return outcome.gone is not None and bool((outcome.gone.observed_end(patient, at)[0] > 0).any())


def _digits(x: float, digits: int = 2) -> float:
    return float(f"{x:.{digits}g}")


def is_skewed(value: np.ndarray) -> bool:
    """Whether all values are above 0, and less skewed by their logarithm.

    Parameters
    ----------
    value : ndarray
        (value,) float64.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_skewed(np.array([1.0, 2.0, 4.0, 100.0])), is_skewed(np.array([-1.0, 0.0, 90.0]))
    (True, False)
    """

    def skew(x: np.ndarray) -> float:
        away = x - x.mean()
        return abs(float((away**3).mean())) / max(float((away**2).mean()), 1e-12) ** 1.5

    return bool((value > 0).all()) and skew(np.log(value)) < skew(value)


def _ends(
    value: np.ndarray, patient: np.ndarray, least: int, outside: float = SHARE_OUTSIDE
) -> tuple[float, float]:
    """Two numbers beyond each of which few values lie, but those of `least` patients."""
    ends = []
    for sign in (1.0, -1.0):
        order = np.argsort(sign * value, kind="stable")
        _, first = np.unique(patient[order], return_index=True)
        rank = max(int(outside * len(value)), int(np.sort(first)[min(least, len(first)) - 1]))
        ends.append(float(value[order[min(rank, (len(value) - 1) // 2)]]))
    return ends[0], ends[1]


def _edges(value: np.ndarray, patient: np.ndarray, log: bool, least: int) -> tuple[float, ...]:
    """Ends of bins of equal width, on a logarithmic scale where `log`."""
    scaled = np.log(value) if log else value
    low, high = _ends(scaled, patient, least)
    # of most values: a single one, however far away, widens nothing
    usual = 3 * float(np.median(np.abs(scaled - np.median(scaled))))
    if not usual:
        usual = 2 * float(scaled.clip(*_ends(scaled, patient, least, 0.0)).std())
    least_width = max(_digits(usual, 1), 1e-3 if log else 1e-3 * abs(low), 1e-6)
    if high - low < least_width:  # few patients, or one value for almost all
        low, high = (low + high - least_width) / 2, (low + high + least_width) / 2
    step = 10.0 ** np.floor(np.log10((high - low) / 20))
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    width = (high - low) / BINS
    ends = low + width * np.arange(-OUTER, BINS + OUTER + 1)
    if log:
        ends = np.exp(ends)
    elif ends[0] < 0 and (value >= 0).all():
        # where values lie far above zero a bin from there would be the widest of all, and pull means down
        ends = np.concatenate([[0.0], ends[ends > 1e-3 * width]])
    return tuple(_digits(end, 7) for end in ends.tolist())


def _last_time(longest: np.ndarray, patient: np.ndarray, least: int) -> float:
    """The longest time, rounded, at or after which enough patients have a value."""
    own = np.zeros(patient.max() + 1)
    np.maximum.at(own, patient, longest)
    own = np.sort(own[own > 0])[::-1]
    if not len(own):
        return np.inf
    few = max(min(MIN_REMAINING, len(own) // 4), least)
    end = float(own[min(few, len(own)) - 1])
    return round_time(end, own[-1:])


def value_times(when: np.ndarray, patient: np.ndarray, end: float, least: int) -> tuple[float, ...]:
    """Choose times between which about equally many later values lie.

    Parameters
    ----------
    when : ndarray
        (pair,) float64, days after the landmark of each value.
    patient : ndarray
        (pair,) int64, whose each is.
    end : float
        The last time, in days.
    least : int
        Fewest patients that have a value between two times.

    Returns
    -------
    tuple of float
        Days after the landmark, rising; seven at most.
    """
    cuts = np.quantile(when, (np.arange(TIMES - 1) + 0.5) / (TIMES - 1))
    steps = np.unique(np.round(cuts / end * HORIZON_STEPS).clip(1, HORIZON_STEPS))
    grid = np.unique(np.append(steps * end / HORIZON_STEPS, end))
    interval = np.searchsorted(grid, when).clip(max=len(grid) - 1)
    return tuple(grid[pooled(interval, patient, len(grid), least)].tolist())
