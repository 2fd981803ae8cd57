"""How good is a model, beside its comparators, with intervals: one row a figure.

References
----------
Collins GS, Ogundimu EO, Altman DG (2016). Stat Med 35:214-226 (at least 100 events).
Efron B, Tibshirani RJ (1993). An introduction to the bootstrap.
Holm S (1979). Scand J Stat 6:65-70.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.files import atomic_file
from gnnpatient.progress import Progress
from gnnpatient.show import Shown, Summary, Table, counted, listed
from gnnpatient.study import curves
from gnnpatient.study.baselines import COMPARATORS, censoring_hazard
from gnnpatient.study.coverage import coverage_rows
from gnnpatient.study.curves import Place, shown_models
from gnnpatient.study.event_counts import event_counts
from gnnpatient.study.intervals import bootstrap_interval, holm, p_value, resampling_units
from gnnpatient.study.occupation import occupation_scores
from gnnpatient.study.scoreboard import MIN_CASES, WORDS, ModelRisks, ObservedOutcome, Scoreboard
from gnnpatient.study.seen_again import between_visits, seen_again
from gnnpatient.study.subgroups import compare_groups, gap_sentences, groups_of, is_unit
from gnnpatient.times import days, duration

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

LEVEL = 0.05  # of p values, after Holm's rule
MIN_EVENTS = 100  # in the scored patients; below, a comparison cannot be judged (Collins et al. 2016)
HIDDEN = ("nograph",)  # models of which only the difference to another one is shown
WHOLE = (
    "scaled_ibs",
    "scaled_brier",
    "scaled_crps",
    "scaled_rps",
)  # by which it is said whether the graph adds anything
COMPARED = (  # between two models
    *("auc", "auprc", "c", "brier", "ibs", "scaled_ibs", "scaled_brier"),
    *("rmse", "mae", "crps", "scaled_crps", "scaled_mse"),
    *("rps", "scaled_rps", "qwk"),
)
NOT_AVERAGED = ("tau", "ici")  # over landmarks
WITHOUT_INTERVAL = ("ici",)  # too slow to be drawn again and again
MAX_LINES = 24  # of the table in a notebook
BESIDE: Mapping[str, Callable[..., tuple[list[dict[str, Any]], list[str]]]] = {
    "recurrent": event_counts,
    "states": occupation_scores,
}
"""By the kind of an outcome, what is scored beside its curves: the number of events, or each state."""
_KEYS = ("model", "metric", "landmark", "horizon", "cause", "group", "censoring")  # what a figure is of
MAX_NAMED = 3  # figures that are named in a warning
MAX_SHIFT = 0.02  # a figure that the model of censoring moves by more is flagged


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Shown):
    """The answer of `evaluate`.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    patients : int
        Scored patients.
    held_out : int
        Patients of the cohort that were not trained on.
    events : mapping of str to int
        Scored patients with each cause, or of each class.
    rows : list of dict
        One row a figure: model, landmark, horizon (days), cause, metric, value, low, high, group, draws,
        interval, censoring. Landmark None is the mean over landmarks; value None is not estimable.
    warnings : sequence of str
        Why figures are missing, and which ones the model of censoring moves.
    units : str
        What the intervals resample: "patients" or "groups".
    entry : float or None
        The landmark, in days, that stands for each patient's entry.
    graph_p : mapping of str to float
        By cause the two-sided p value, by the spread of the draws, of what the graph adds to it.
    groups, gaps : sequence of dict
        With `by`: a row a group (by, group, patients, events, reference), and a row a gap of it to the
        largest group of its column, as `gnnpatient.study.subgroups.compare_groups` gives them.
    board : Scoreboard or None
        The scored risks, for `curve` and `plot`; no part of JSON.
    calibrated : sequence of dict
        How often calibrated answers hold, a row a group, model and landmark, as
        `gnnpatient.study.coverage.coverage_rows` gives them; empty where nothing is calibrated.
    """

    outcome: str
    patients: int  # scored
    held_out: int  # patients of the cohort that were not trained on
    events: Mapping[str, int]  # scored patients with each cause, or of each class
    rows: list[dict[str, Any]]
    warnings: Sequence[str] = ()  # why figures are missing, and which ones the model of censoring moves
    units: str = "patients"  # what the intervals resample
    entry: float | None = None  # the landmark, in days, that stands for each patient's entry
    graph_p: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[Mapping[str, Any]] = ()  # a row each
    gaps: Sequence[Mapping[str, Any]] = ()  # of each group to the largest of its column
    board: Scoreboard | None = None
    calibrated: Sequence[Mapping[str, Any]] = ()

    def _summary(self) -> Summary:
        whole = [row for row in self.rows if row["group"] is None and row.get("censoring", "km") == "km"]
        days = list(dict.fromkeys(row["landmark"] for row in whole))
        at = None if None in days or not days else days[0]  # the mean over landmarks, where there are several
        shown = [row for row in whole if row["landmark"] == at]
        models = list(dict.fromkeys(row["model"] for row in self.rows))
        facts = [
            ("events", listed([f"{n} {name}" for name, n in self.events.items()])),
            ("models", listed(models)),
            ("figures", f"{len(self.rows)}, as .value({models[0] if models else 'MODEL'!r}, METRIC, ...)"),
        ]
        if self.graph_sentence is not None:
            facts.append(("graph", self.graph_sentence))
        facts += [("groups", line) for line in self.gap_sentences]
        facts += [("calibrated", line) for line in self.coverage_sentences]
        if self.too_small is not None:
            facts.append(("but", self.too_small))
        title = f"Evaluation of {self.outcome}: {counted(self.patients, 'scored patient')}"
        return Summary(title, facts, [_figure_table(shown, at)] if shown else [])

    @property
    def too_small(self) -> str | None:
        """Why these figures cannot decide between models; None where they might."""
        fewest = min(self.events, key=lambda cause: self.events[cause])
        n = self.events[fewest]
        return None if n >= MIN_EVENTS else f"too small to judge: {n} scored patients with {fewest}"

    @property
    def graph_sentence(self) -> str | None:
        """Whether the graph adds anything, by the scaled score of all landmarks; None of a model without one.

        It does where the interval of the paired difference with - without it lies above 0, of several causes
        where its p value holds for all of them, too (Holm 1979). Where the graph has no weight there is
        nothing to compare, and that is said.
        """
        rows = _graph_rows(self.rows)
        if not rows:
            return None
        if all(row[key] == 0 for row in rows.values() for key in ("value", "low", "high")):
            return "the graph has no part in the answer: with and without it, it is the same"
        above = [row["low"] is not None and row["low"] > 0 for row in rows.values()]
        p = holm([self.graph_p.get(cause, 1.0) for cause in rows])
        several = len(rows) > 1
        helped = [c for c, up, q in zip(rows, above, p, strict=True) if up and (q < LEVEL or not several)]
        said = (
            f"the graph adds to {listed(helped)}" if helped else "the graph is not shown to add anything here"
        )
        each = "; ".join(
            f"{cause} {_signed(row)}" + (f", Holm p {q:.2g}" if several and row["low"] is not None else "")
            for (cause, row), q in zip(rows.items(), p, strict=True)
        )
        return f"{said}: {WORDS[next(iter(rows.values()))['metric']]} with - without it, {each}"

    @property
    def gap_sentences(self) -> list[str]:
        """What may be said of the gaps between groups, by the first model; empty without groups."""
        return gap_sentences(self.gaps, self.rows[0]["model"]) if self.gaps else []

    @property
    def coverage_sentences(self) -> list[str]:
        """How often calibrated answers hold, a line a model: on average over landmarks."""
        whole = [row for row in self.calibrated if row["group"] is None]
        last = {row["model"]: row for row in whole}  # the mean over landmarks comes last
        lines = []
        for model, row in last.items():
            if row["value"] is None:
                continue
            around = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            lines.append(
                f"{model}: the {row['level']:g} {row['what']} holds in {row['value']:.3f}{around} of "
                f"{row['patients']} patients, promised {row['promise']:g}; mean size {row['size']:.4g}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything for `evaluate --json`; what is not estimable is None.

        Returns
        -------
        dict
        """
        return {
            "outcome": self.outcome,
            "patients": self.patients,
            "held_out": self.held_out,
            "events": dict(self.events),
            "too_small": self.too_small,
            "warnings": list(self.warnings),
            "units": self.units,
            "entry": self.entry,
            "graph": self.graph_sentence,
            "groups": list(self.groups),
            "gaps": list(self.gaps),
            "calibrated": list(self.calibrated),
            "rows": self.rows,
        }

    def to_frame(self) -> pl.DataFrame:
        """Make a table of the figures.

        Returns
        -------
        polars.DataFrame
            One row a figure, with the columns of `rows`. ``.to_pandas()`` makes one of pandas.
        """
        import polars as pl

        return pl.DataFrame(self.rows, infer_schema_length=None)

    def value(self, model: str, metric: str, **where: Any) -> dict[str, Any]:
        """The one row of a model and a metric.

        Parameters
        ----------
        model : str
            A model, or a difference such as "gnn-cox".
        metric : str
            Name of the score.
        **where
            landmark (None for the mean over landmarks), horizon, cause, group or censoring (default "km"), as
            far as they are needed to tell rows apart. Times are days, or durations as in "5y".

        Returns
        -------
        dict

        Raises
        ------
        InputError
            When no row fits, or several do.
        """
        where = {"model": model, "metric": metric, "censoring": "km", **where}
        found = self.rows
        for key, wanted in where.items():
            if key not in _KEYS:
                raise InputError(f"unknown {key!r}{near(key, _KEYS)}")
            word = self._days(key, wanted)
            fits = [row for row in found if row[key] == word]
            if not fits:
                there = ", ".join(dict.fromkeys(str(row[key]) for row in found))
                raise InputError(f"no figure has {key} {wanted!r} here; there are {there}")
            found = fits
        if len(found) > 1:
            open_ = {k: list(dict.fromkeys(str(row[k]) for row in found)) for k in _KEYS if k not in where}
            ways = "; ".join(f"{k}: {', '.join(v)}" for k, v in open_.items() if len(v) > 1)
            raise InputError(f"{len(found)} rows of {model} {metric}; say which: {ways}")
        return found[0]

    def curve(
        self,
        kind: str,
        *,
        cause: str | None = None,
        landmark: float | str | None = None,
        horizon: float | str | None = None,
        models: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """What `plot` draws, as a table.

        Parameters
        ----------
        kind : {"calibration", "auc", "decision"}
            "calibration": model, risk, share (observed, smoothed). "auc": model, horizon, value, low, high,
            at_risk. "decision": model, threshold, net_benefit (cases per patient), above (patients at or
            above the threshold), with the models "treat all" and "treat none".
        cause, landmark, horizon, models
            As in `plot`.

        Returns
        -------
        polars.DataFrame

        Raises
        ------
        InputError
            When a name or time is unknown, or nothing can be estimated there.
        """
        place, names = self._place(kind, cause, landmark, horizon, models)
        if kind == "calibration":
            return curves.calibration(place, names)
        return curves.auc_by_horizon(place, names) if kind == "auc" else curves.decision(place, names)

    def plot(
        self,
        kind: str = "calibration",
        *,
        cause: str | None = None,
        landmark: float | str | None = None,
        horizon: float | str | None = None,
        models: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw calibration, AUC by horizon, or the net benefit of acting on the risks (a decision curve).

        Parameters
        ----------
        kind : {"calibration", "auc", "decision"}
        cause : str, optional
            Of which cause or class; may be left out where there is one.
        landmark : float or str, optional
            Days, a duration, or "entry"; default: the first one.
        horizon : float or str, optional
            Days, or a duration; default: the last one that can be estimated.
        models : sequence of str, optional
            Default: the first one and the plain comparator.
        ax : matplotlib.axes.Axes, optional
            Where to draw; default: in a new figure, with the numbers of patients below the curves.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            When a name or time is unknown, or nothing can be estimated there.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> from gnnpatient.study import evaluate_models
        >>> X = pbc().landmarks(times=[0]).followed("death")
        >>> half = COMPARATORS["survival"]["cox"](landmarks=1).fit(X[::2])
        >>> found = evaluate_models({"mine": half}, X[1::2], horizons=[1826.0], n=2)
        >>> found.plot("decision", cause="death").get_title(loc="left")
        'Decision curve: death, entry'
        >>> found.curve("decision", cause="death").columns
        ['model', 'threshold', 'net_benefit', 'above']
        """
        place, names = self._place(kind, cause, landmark, horizon, models)
        from gnnpatient.study.figures import plot

        when = "" if place.landmark is None else f", {moment_name(place.landmark, self.entry)}"
        return plot(kind, place, names, when, ax)

    def save_plots(self, folder: str | Path) -> tuple[list[Path], list[str]]:
        """Draw every kind of figure for each cause and landmark, as KIND-CAUSE-LANDMARK.png.

        Parameters
        ----------
        folder : str or Path
            Made where it is not there.

        Returns
        -------
        files : list of Path
        notes : list of str
            What could not be drawn, and why.
        """
        from matplotlib import pyplot

        if self.board is None:
            raise InputError("this evaluation has lost its risks; evaluate anew")
        files, notes = list[Path](), list[str]()
        days = [day for day, rows in self.board.by_landmark.items() if len(rows)]
        kinds = curves.KINDS if self.board.observed.kind == "survival" else ("calibration", "decision")
        causes = [cause for cause in self.board.causes if cause in self.board.observed.judged]
        for cause, day, kind in itertools.product(causes, days, kinds):
            when = [] if day is None else [moment_name(day, self.entry)]
            words = (re.sub(r"\W+", "_", word) for word in (kind, cause, *when))
            file = Path(folder) / f"{'-'.join(words)}.png"
            try:
                self.plot(kind, cause=cause, landmark=day)
            except InputError as refusal:
                notes.append(f"{file.name} is not drawn: {refusal}")
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as part:
                pyplot.savefig(part, format="png", dpi=100, metadata={"Software": None})
            pyplot.close()
            files.append(file)
        return files, notes

    def _place(
        self,
        kind: str,
        cause: str | None,
        landmark: float | str | None,
        horizon: float | str | None,
        models: Sequence[str] | None,
    ) -> tuple[Place, list[str]]:
        """Of what a curve is, and of which models."""
        if kind not in curves.KINDS:
            raise InputError(f"kind {kind!r}; must be one of {', '.join(curves.KINDS)}")
        if self.board is None:
            raise InputError("this evaluation has lost its risks; evaluate anew")
        if self.board.observed.kind == "progression":
            raise InputError(
                f"{self.outcome!r} is a value, which has no such curve; forecast.plot() draws it"
            )
        names = curves.shown_models(self.board) if models is None else list(models)
        for name in names:
            if name not in self.board.names:
                raise InputError(f"unknown model {name!r}{near(name, self.board.names)}")
        at, until = self._days("landmark", landmark), self._days("horizon", horizon)
        return Place.of(self.board, cause, at, until), names

    def _days(self, key: str, wanted: Any) -> Any:
        """A landmark or horizon as in the rows, where it is a duration or "entry"."""
        if key not in ("landmark", "horizon") or not isinstance(wanted, str):
            return wanted
        return self.entry if wanted == "entry" else days(wanted)


def moment_name(landmark: float | None, entry: float | None) -> str:
    """A landmark of a row in words.

    Parameters
    ----------
    landmark : float or None
        Days; None: of all of them.
    entry : float or None
        The day that stands for entry.

    Returns
    -------
    str

    Examples
    --------
    >>> moment_name(0.0, 0.0), moment_name(365.25, None), moment_name(None, None)
    ('entry', '1 y', 'mean')
    """
    if landmark is None:
        return "mean"
    return "entry" if landmark == entry else duration(landmark)


def _graph_rows(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the graph adds to each cause, by the scaled score of all landmarks."""
    those = [row for row in rows if row["model"] == "gnn-nograph" and row["metric"] in WHOLE]
    those = [row for row in those if row["group"] is None and row["censoring"] == "km"]
    return {row["cause"]: row for row in those}  # the mean over landmarks comes last


def _signed(row: Mapping[str, Any]) -> str:
    """A difference with its interval, in words."""
    if row["value"] is None or row["low"] is None:
        return "not estimable"
    return f"{row['value']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"


def _figure_table(rows: Sequence[Mapping[str, Any]], at: float | None) -> Table:
    """The figures of some rows: a line a cause, horizon and model, a column a metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = dict[tuple[str, str, str], dict[str, str]]()
    for row in rows:
        horizon = "" if row["horizon"] is None else f"within {duration(row['horizon'])}"
        line = lines.setdefault((str(row["cause"]), horizon, row["model"]), {})
        around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        line[row["metric"]] = "-" if row["value"] is None else f"{row['value']:.3f}{around}"
    order = [list(dict.fromkeys(of)) for of in zip(*lines, strict=True)]  # as they came, alike together
    keys = sorted(lines, key=lambda key: [names.index(word) for names, word in zip(order, key, strict=True)])
    table = [(*key, *(lines[key].get(metric, "") for metric in metrics)) for key in keys]
    more = len(table) - MAX_LINES
    where = "means over landmarks" if at is None else f"at day {at:g}"
    note = f"{where}{f'; and {more} more lines' if more > 0 else ''}"
    return Table(["<cause", "<horizon", "<model", *metrics], table[:MAX_LINES], note)


def evaluate(
    scored: ModelRisks,
    *,
    outcome: str,
    horizons: Sequence[float],
    by: Sequence[str] = (),
    cause: str | None = None,
    against: tuple[str, str] | Sequence[tuple[str, str]] | None = ("gnn", "cox"),
    held_out: int = 0,
    censoring: str = "km",
    n: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Score every model at each landmark and horizon, with bootstrap intervals.

    Discrimination compares patients of one fold only. A score that ranks patients, or fits a line through
    them, needs 5 patients among the cases and 5 among the others. Intervals resample the unit that splits
    keep together and hold the fitted models fixed; see `bootstrap_interval`.

    Of an outcome with `worse` a second row, "auc_seen", ranks those who are seen again, see `seen_again`. Of
    events that recur, causes are of the next one; "number_oe", "number_mse" and "number_scaled_mse" are of
    the expected number, see `event_counts`. Of several states, causes are those that end it; "state_oe",
    "state_brier" and the like are of being in each, see `occupation_scores`.
    Of a diagnosis the rows' cause is a class, against the rest: the last of two, else each; of ordered
    classes "at least" each but the lowest; of several labels each of them, where it is open. Figures of all
    classes or labels together have the cause "all classes" or "all labels". A landmark without a label is not
    scored. A task with moments of its own has one figure of them all, landmark None.

    Parameters
    ----------
    scored : ModelRisks
        Landmarks with the risks of each model. Scaled scores are relative to the model called "null"; of
        "nograph" there are differences alone.
    outcome : str
        Name of a survival outcome or a diagnosis.
    horizons : sequence of float
        Days after the landmark, among the times of `scored`; none of a diagnosis.
    by : sequence of str, default ()
        Repeat the figures in groups: a baseline covariate (a number is cut at its median), or "group"; and
        give the gap of each group to the largest one, see `gnnpatient.study.subgroups.compare_groups`.
    cause : str, optional
        The one cause or class to score; default: all.
    against : tuple of two str, or sequence of these, optional
        Models whose paired differences are added; default ("gnn", "cox").
    held_out : int, default 0
        For the answer: patients of the cohort that were not trained on.
    censoring : {"km", "cox"}, default "km"
        "cox" adds each figure with weights by a ridge Cox model of being lost, on last observations, fitted
        on the patients scored at each landmark and held fixed in the intervals. C and ICI have no interval
        there. A figure that moves by more than .02 is flagged.
    n : int, default 200
        Bootstrap draws.
    seed : int, default 0
        Of the draws.
    progress : Progress, optional
        Called after each draw.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        When nobody is left to score, a horizon has no forecast, a cause or a group is unknown, or censoring
        is neither.
    """
    landmarks = scored.landmarks
    observed, groups = scored_parts(landmarks, outcome, by, censoring)
    has_label = observed.has_label
    for horizon in horizons:
        if not np.isclose(scored.times, horizon, rtol=1e-9, atol=0).any():
            raise InputError(
                f"horizon {horizon:g} days is not among the times at which the forecasts were taken"
            )
    if cause is not None and cause not in observed.all_causes:
        raise InputError(f"unknown cause {cause!r} of {outcome!r}{near(cause, observed.all_causes)}")
    pairs = _pairs(against, tuple(scored.risks))
    board = Scoreboard(
        scored,
        observed,
        observed.all_causes if cause is None else (cause,),
        _columns(observed, horizons),
        observed.code >= 0,
        without_interval=WITHOUT_INTERVAL,
    )
    rows: list[dict[str, Any]] = []
    warnings = [*_blind_comparators(scored), *observed.unseen(landmarks)]
    everybody = ("", np.ones(len(landmarks), bool), False)
    each = [(g, rows, is_unit(landmarks, by)) for by, parts in groups.items() for g, rows in parts.items()]
    for group, members, by_patient in [everybody, *each]:
        if (members & has_label).any():
            part = replace(board, members=members & board.members, by_patient=by_patient)
            found, words = _figures(part, censoring, pairs, n, seed, group, progress)
            rows, warnings = rows + found, warnings + words
    counts, gaps = compare_groups(board, groups, shown_models(board), n=n, seed=seed, progress=progress)
    if landmarks.cohort.outcomes[outcome].kind == "worsening":
        second, words = seen_again(scored, outcome, horizons, n=n, seed=seed)
        between = between_visits(scored, outcome, horizons, pairs, n=n, seed=seed)
        rows, warnings = rows + second + between, warnings + words
    if beside := BESIDE.get(landmarks.cohort.outcomes[outcome].kind):
        for one in [everybody, *each]:
            numbers, words = beside(scored, outcome, horizons, group=one, n=n, seed=seed)
            rows, warnings = rows + numbers, warnings + words
    graph_p = {cause: row["p"] for cause, row in _graph_rows(rows).items() if row["p"] is not None}
    for row in rows:
        row.pop("p", None)
    return Evaluation(
        outcome=outcome,
        patients=len(np.unique(landmarks.patient[has_label])),
        held_out=held_out,
        events=observed.counts(landmarks),
        rows=rows,
        warnings=tuple(warnings),
        units=resampling_units(landmarks)[1],
        entry=None if observed.pooled else landmarks.entry_day,
        graph_p=graph_p,
        groups=counts,
        gaps=gaps,
        board=board,
        calibrated=coverage_rows(scored, observed, groups, n=n, seed=seed),
    )


def _blind_comparators(scored: ModelRisks) -> list[str]:
    """What the comparator does not see: a difference to it says nothing of images and texts."""
    cohort = scored.landmarks.cohort
    kinds = [kind for kind in cohort.vectors if len(cohort.events[kind])]
    return [
        f"{name} counts the rows of {', '.join(kinds)} and sees nothing of what is in them; what they add is "
        "answered by gnnpatient compare"
        for name in dict.fromkeys(itertools.chain(*COMPARATORS.values()))
        if name in scored.risks and kinds
    ]


def scored_parts(
    landmarks: Landmarks, outcome: str, by: Sequence[str] = (), censoring: str = "km"
) -> tuple[ObservedOutcome, dict[str, dict[str, np.ndarray]]]:
    """What came of the landmarks that are scored, and in which groups the figures are repeated.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    outcome : str
        Name of a survival outcome or a diagnosis.
    by : sequence of str, default ()
        As in `evaluate`.
    censoring : {"km", "cox"}, default "km"
        As in `evaluate`.

    Returns
    -------
    ObservedOutcome
    dict of str to dict of str to ndarray
        By column and the name of a group, which landmarks are in it: (landmark,) bool.

    Raises
    ------
    InputError
        When nobody is left to score, a group is unknown, or censoring is neither, or hides nothing.
    """
    if not len(landmarks):
        raise InputError("nobody left to score; give other landmarks or another cohort")
    observed = ObservedOutcome.of(landmarks, outcome)
    if not observed.has_label.any():
        raise InputError(f"nobody left to score; no landmark has a label of {outcome!r}")
    if censoring not in ("km", "cox"):
        raise InputError(f"censoring {censoring!r}; must be km or cox")
    if censoring == "cox" and observed.time is None:
        why = "of several labels there is none" if observed.parts else "no censoring hides its labels"
        raise InputError(f"outcome {outcome!r}: {why}; leave out censoring = cox")
    return observed, groups_of(landmarks, by)


def _columns(observed: ObservedOutcome, horizons: Sequence[float]) -> tuple[tuple[str, float | None], ...]:
    """Every metric of the outcome's kind, at each horizon or in all."""
    each = [
        (metric, float(horizon))
        for horizon in dict.fromkeys(horizons)
        for metric in observed.scores.at_horizon
    ]
    return (*each, *((metric, observed.horizon) for metric in observed.scores.overall))


def _figures(
    board: Scoreboard,
    censoring: str,
    pairs: Sequence[tuple[str, str]],
    n: int,
    seed: int,
    group: str,
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of one group of landmarks, and the warnings about them."""
    rows = _rows(board, pairs, n, seed, group or None, progress)
    warnings = [f"{group}: {why}" if group else why for why in _not_ranked(board)]
    if censoring == "cox":
        hazard = _hazards(board)
        cox = replace(board, hazard=hazard, without_interval=(*WITHOUT_INTERVAL, "c"))
        weighted = _rows(cox, pairs, n, seed, group or None, progress)
        warnings += _moved(rows, weighted, group)
        rows += weighted
    return rows, warnings


def _rows(
    board: Scoreboard,
    pairs: Sequence[tuple[str, str]],
    n: int,
    seed: int,
    group: str | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """One row a model, cause, landmark and column, then means over landmarks, then differences."""
    averaged = np.array([metric not in NOT_AVERAGED for metric, _ in board.columns])

    def with_mean(scores: np.ndarray, occupied: np.ndarray) -> np.ndarray:
        return np.concatenate([scores, _landmark_mean(scores[:, :, occupied], averaged)[:, :, None]], 2)

    value = with_mean(board.all_rows, board.occupied)
    weights = "km" if board.hazard is None else "cox"
    what = " ".join(["intervals", *([group] if group else []), *(["(cox)"] if weights == "cox" else [])])
    draws = board.draws(with_mean, n, seed, progress, what)
    units, unit_name = board.units
    days = list(board.by_landmark)

    def row(
        model: str, k: int, a: int, c: int, figure: float, drawn: np.ndarray, difference: bool = False
    ) -> dict[str, Any]:
        metric, horizon = board.columns[c]
        drawn = drawn[:0] if metric in board.without_interval else drawn
        around = bootstrap_interval(figure, drawn, units, unit_name)
        judged = difference and around["low"] is not None and around["draws"] > 1
        return {
            "model": model,
            "landmark": days[a] if a < len(days) else None,
            "horizon": horizon,
            "cause": board.causes[k],
            "metric": metric,
            "value": float(figure) if np.isfinite(figure) else None,
            "low": around["low"],
            "high": around["high"],
            "group": group,
            "draws": around["draws"],
            "interval": around["interval"],
            "censoring": weights,
        } | ({"p": p_value(figure, drawn, units, unit_name) if judged else None} if difference else {})

    places = _places(board, averaged)
    rows = [
        row(model, k, a, c, value[k, m, a, c], draws[:, k, m, a, c])
        for k, a, columns in places
        for m, model in enumerate(board.names)
        if model not in HIDDEN
        for c in columns
    ]
    for first, second in pairs:
        i, j = board.names.index(first), board.names.index(second)
        difference, drawn = value[:, i] - value[:, j], draws[:, :, i] - draws[:, :, j]
        rows += [
            row(f"{first}-{second}", k, a, c, difference[k, a, c], drawn[:, k, a, c], True)
            for k, a, columns in places
            for c in columns
            if board.columns[c][0] in COMPARED
        ]
    return rows


def _pairs(
    against: tuple[str, str] | Sequence[tuple[str, str]] | None, names: Sequence[str]
) -> list[tuple[str, str]]:
    """The models to be compared, where both are there."""
    if against is None:
        return []
    pairs = [against] if isinstance(against[0], str) else against
    return [pair for pair in pairs if set(pair) <= set(names)]  # type: ignore[misc]


def _places(board: Scoreboard, averaged: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """Cause, landmark and columns of every figure: landmarks with somebody, then the mean of several."""
    defined = [
        [c for c, (metric, _) in enumerate(board.columns) if board.observed.defines(cause, metric)]
        for cause in board.causes
    ]
    landmarks = np.flatnonzero(board.occupied).tolist()
    places = [(k, a, columns) for k, columns in enumerate(defined) for a in landmarks]
    if len(board.by_landmark) > 1:
        mean = [[c for c in columns if averaged[c]] for columns in defined]
        places += [(k, len(board.by_landmark), columns) for k, columns in enumerate(mean)]
    return places


def _landmark_mean(scores: np.ndarray, averaged: np.ndarray) -> np.ndarray:
    """Means of (cause, model, landmark, column) over landmarks, of what is estimable at all of them."""
    if not scores.shape[2]:
        return np.full((*scores.shape[:2], scores.shape[3]), np.nan)
    mean = np.ascontiguousarray(np.moveaxis(scores, 2, -1)).mean(-1)
    return np.where(averaged, mean, np.nan)


def _not_ranked(board: Scoreboard) -> list[str]:
    """Where too few patients are cases, or others, to rank them: a line a cause."""
    there = {metric for metric, _ in board.columns}
    ranked = [metric for metric in ("auc", "c", "slope", "ici") if metric in there]
    places: dict[str, list[str]] = {}
    for (cause, day, horizon), fewest in board.fewest().items():
        if fewest < MIN_CASES:
            where = "" if day is None else f"at {day:g} d"
            until = "" if horizon is None else f" to {horizon:g} d"
            places.setdefault(cause, []).append(f"{where}{until} ({fewest:g})".strip())
    return [
        f"{cause}: no {', '.join(ranked)} {', '.join(at)}: fewer than {MIN_CASES} patients among "
        "the cases or the others"
        for cause, at in places.items()
    ]


def _hazards(board: Scoreboard) -> np.ndarray:
    """The relative hazard of being lost of each member, by a model of each landmark: (landmark,)."""
    observed, landmarks = board.observed, board.models.landmarks
    assert observed.time is not None
    out = np.ones(len(landmarks))
    for place in landmarks.by_landmark.values():
        rows = place[board.members[place]]
        if not len(rows):
            continue
        last = np.inf if observed.horizon is None else observed.horizon
        # to be seen to the end of the horizon is not to be lost
        lost = (observed.code[rows] == 0) & (observed.time[rows] <= last)
        out[rows] = censoring_hazard(landmarks[rows], observed.time[rows], lost)
    return out


def _moved(plain: list[dict[str, Any]], others: list[dict[str, Any]], group: str) -> list[str]:
    """Which figures the model of censoring moves, in one line; the rows are marked, too."""
    names = []
    for one, other in zip(plain, others, strict=True):
        values = one["value"], other["value"]
        far = one["metric"] != "tau" and None not in values and abs(values[0] - values[1]) > MAX_SHIFT
        one["moved"] = other["moved"] = far
        if far:
            where = "" if one["landmark"] is None else f" at {one['landmark']:g} d"
            until = "" if one["horizon"] is None else f" to {one['horizon']:g} d"
            names.append(
                f"{one['model']} {one['metric']} of {one['cause']}{where}{until} "
                f"{values[0]:.3f}, cox {values[1]:.3f}"
            )
    if not names:
        return []
    more = f"; and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    start = f"{group}: " if group else ""
    return [
        f"{start}{len(names)} figures move by more than {MAX_SHIFT:g} where censoring may depend on what is "
        f"known: {'; '.join(names[:MAX_NAMED])}{more}"
    ]
