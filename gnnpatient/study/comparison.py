"""The answer of a comparison: figures and their means, contrasts, verdicts, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.progress import Progress
from gnnpatient.show import Shown, Summary, Table, counted, listed
from gnnpatient.study.evaluate import LEVEL, MIN_EVENTS
from gnnpatient.study.intervals import bootstrap_interval, holm, p_value
from gnnpatient.study.scoreboard import (
    SCORE_SETS,
    TOGETHER,
    WORDS,
    Column,
    Model,
    ModelRisks,
    ObservedOutcome,
    Scoreboard,
    ScoreSet,
)

WEAKENING = ("cut for", "stopped after")  # how the lines begin on what makes a verdict weaker
CONTRASTS = {
    ("gnn", "nograph"): "the graph network, beside the linear model and the trees,",
    ("gnn", "linear"): "the stack of all families, instead of a linear model of last observations,",
    ("gnn", "boosted"): "the stack of all families, instead of boosted trees alone,",
    ("graph", "gru"): "passing messages, instead of a recurrent network over the same rows,",
    ("gnn", "late"): "one model of all node types, instead of the mean of unimodal ones,",
    ("gnn", "values"): "more than the last value of each code",
    ("gnn", "clockwork"): "what the rows say, beside their timing and number,",
    ("values", "clockwork"): "the last value of each code, instead of the timing and number of rows,",
    ("gnn", "statics"): "any row, beside the baseline covariates,",
    ("clockwork", "statics"): "the timing and number of rows, beside the baseline covariates,",
    ("presence", "statics"): "the pattern of missingness, beside the baseline covariates,",
    ("values", "statics"): "the last value of each code, beside the baseline covariates,",
}
"""What a contrast of two models is about."""

SEES = (("values", "clockwork", "gnn"), ("tuned boosted values", "tuned clockwork", "tuned boosted"))
"""Models that see values only, timing only, and both."""


@dataclass(frozen=True, eq=False)
class ComparedScores:
    """Scores of every model for one cause, their means over horizons and landmarks, and bootstrap draws.

    A mean is over what all rows together let estimate in every model, so that all are averaged alike.

    Attributes
    ----------
    board : Scoreboard
        Scores at each landmark and horizon.
    n : int
        Bootstrap draws.
    seed : int
        Of the draws.
    progress : Progress or None
        Called after each draw.
    """

    board: Scoreboard
    n: int = 0  # bootstrap draws
    seed: int = 0
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        models: ModelRisks,
        outcome: str,
        cause: str,
        horizons: Sequence[float],
        n: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> ComparedScores:
        """Score models for one cause or class.

        Parameters
        ----------
        models : ModelRisks
            Risks of each model, one of them called "null".
        outcome : str
            Name of the outcome.
        cause : str
            Cause or class that is judged.
        horizons : sequence of float
            Days; none of a diagnosis.
        n : int, default 0
            Bootstrap draws.
        seed : int, default 0
        progress : Progress, optional
            Called after each draw.

        Returns
        -------
        ComparedScores
        """
        observed = ObservedOutcome.of(models.landmarks, outcome)
        each = [(m, h) for m in observed.scores.compared_at_horizon for h in dict.fromkeys(horizons)]
        columns = (*each, *((m, None) for m in observed.scores.compared_overall))
        board = Scoreboard(models, observed, (cause,), columns, observed.code >= 0)
        return cls(board, n, seed, progress)

    @property
    def names(self) -> tuple[str, ...]:
        """The models."""
        return self.board.names

    @property
    def cause(self) -> str:
        """The cause or class that is judged."""
        return self.board.causes[0]

    @property
    def scores(self) -> ScoreSet:
        """What the outcome is judged by."""
        return self.board.observed.scores

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Metric and horizon; after the horizons of a metric their mean, horizon None."""
        horizons = dict.fromkeys(h for _, h in self.board.columns if h is not None)
        each = [(m, h) for m in self.scores.compared_at_horizon for h in (*horizons, None)]
        return (*each, *((m, None) for m in self.scores.compared_overall))

    @cached_property
    def landmarks(self) -> tuple[float | None, ...]:
        """Days; the last, None, is the mean over landmarks, or all moments of an outcome with its own."""
        return (None,) if self.board.observed.pooled else (*self.board.by_landmark, None)

    @cached_property
    def value(self) -> np.ndarray:
        """(model, landmark, column)."""
        return self._with_means(self.board.all_rows, self.board.occupied)

    @cached_property
    def draws(self) -> np.ndarray:
        """The same of n draws of patients or groups: (draw, model, landmark, column)."""
        return self.board.draws(self._with_means, self.n, self.seed, self.progress)

    @cached_property
    def _estimable(self) -> np.ndarray:
        """What all rows together let estimate in every model: (landmark, column) of the board."""
        return np.isfinite(self.board.all_rows[0]).all(0)

    def _with_means(self, scores: np.ndarray, _: np.ndarray) -> np.ndarray:
        """With means over horizons, then over landmarks."""
        metrics = len(self.scores.compared_at_horizon)
        horizons = (len(self.board.columns) - len(self.scores.compared_overall)) // max(metrics, 1)
        cuts = horizons * np.arange(1, 1 + metrics)
        *parts, overall = np.split(scores[0], cuts, axis=-1)
        *seen, there = np.split(self._estimable, cuts, axis=-1)
        wide = [np.concatenate([x, _mean(x, s, -1)[..., None]], -1) for x, s in zip(parts, seen, strict=True)]
        table = np.concatenate([*wide, overall], -1)
        some = [np.concatenate([s, s.any(-1, keepdims=True)], -1) for s in seen]
        every = np.concatenate([*some, there], -1)
        return np.concatenate([table, _mean(table, every, 1)[:, None]], 1)[:, -len(self.landmarks) :]

    def selecting(self) -> np.ndarray:
        """The mean score that chooses between models, the lower the better.

        Returns
        -------
        (model,) float64 array
            IBS of survival, Brier score of a diagnosis.
        """
        return self.value[:, -1, self.columns.index((self.scores.selecting, None))]

    def figure(self, value: float, draws: np.ndarray) -> dict[str, Any]:
        """A figure and its interval.

        Parameters
        ----------
        value : float
            In all rows.
        draws : (draw,) array
            In each bootstrap draw.

        Returns
        -------
        dict
            value, low, high, draws, interval; None where not estimable.
        """
        around = bootstrap_interval(float(value), draws, *self.board.units)
        return {"value": float(value) if np.isfinite(value) else None, **around}

    def difference(self, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        """First minus second, of the means over landmarks.

        Parameters
        ----------
        first, second : str
            Names of models.

        Returns
        -------
        value : (column,) float64 array
        draws : (draw, column) float64 array
        """
        i, j = self.names.index(first), self.names.index(second)
        return self.value[i, -1] - self.value[j, -1], self.draws[:, i, -1] - self.draws[:, j, -1]

    def row(self, model: str, landmark: float | None, c: int, figure: Mapping[str, Any]) -> dict[str, Any]:
        """One figure as a row of `Comparison.rows`.

        Parameters
        ----------
        model : str
            Name of a model, or of a difference.
        landmark : float or None
            Day; None for the mean over landmarks.
        c : int
            Position of the column.
        figure : mapping
            As `figure` returns it.

        Returns
        -------
        dict
        """
        metric, horizon = self.columns[c]
        where = {"model": model, "landmark": landmark, "horizon": horizon, "cause": self.cause}
        return {**where, "metric": metric, **figure, "group": None}

    def rows(self, pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """One row a figure, as `Evaluation.rows`.

        Parameters
        ----------
        pairs : iterable of (str, str)
            Models whose differences are added, of means over landmarks only.

        Returns
        -------
        list of dict
        """
        rows = []
        for m, name in enumerate(self.names):
            for a, landmark in enumerate(self.landmarks):
                for c in range(len(self.columns)):
                    figure = self.figure(self.value[m, a, c], self.draws[:, m, a, c])
                    rows.append(self.row(name, landmark, c, figure))
        for first, second in pairs:
            value, draws = self.difference(first, second)
            for c in range(len(self.columns)):
                figure = self.figure(value[c], draws[:, c])
                rows.append(self.row(f"{first}-{second}", None, c, figure))
        return rows

    def contrast(self, first: str, second: str, kind: str | None = None) -> dict[str, Any]:
        """A paired difference in the deciding scores, a p value for both of them together, and a verdict.

        Parameters
        ----------
        first, second : str
            Names of models.
        kind : str, optional
            Node type that the second one lacks.

        Returns
        -------
        dict
            first, second, kind, the figures of both scores, p, holm, verdict. p is the larger of the two, and
            1 where the differences do not point the same way. "helps" and "hurts" need both intervals on one
            side of 0 and p < .05.
        """
        value, draws = self.difference(first, second)
        found: dict[str, Any] = {"first": first, "second": second, "kind": kind}
        p, signs = 0.0, set()
        for metric in self.scores.deciding:
            c = self.columns.index((metric, None))
            found[metric] = self.figure(value[c], draws[:, c])
            if found[metric]["low"] is None:
                p = 1.0
                continue
            p = max(p, p_value(float(value[c]), draws[:, c], *self.board.units))
            signs.add(value[c] > 0)
        found["p"] = found["holm"] = p if len(signs) == 1 else 1.0
        found["verdict"] = _verdict(found)
        return found

    def family(self, contrasts: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """Contrasts whose p values are adjusted for their number (Holm).

        Parameters
        ----------
        contrasts : iterable of (str, str, str)
            First, second, and the node type left out.

        Returns
        -------
        list of dict
            As `contrast` returns them.
        """
        family = [self.contrast(*one) for one in contrasts]
        for found, p in zip(family, holm([f["p"] for f in family]), strict=True):
            found["holm"] = p
            found["verdict"] = _verdict(found)
        return family


def _mean(x: np.ndarray, shown: np.ndarray, axis: int) -> np.ndarray:
    """Mean over what is shown; nan where nothing is."""
    seen = np.broadcast_to(shown, x.shape)
    total, count = np.where(seen, x, 0.0).sum(axis), seen.sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _verdict(found: Mapping[str, Any]) -> str:
    """ "helps", "hurts", "no evidence" or "not estimable"."""
    figures = [found[metric] for metric in WORDS if metric in found]
    if any(figure["low"] is None for figure in figures):
        return "not estimable"
    if found["holm"] < LEVEL and all(figure["low"] > 0 for figure in figures):
        return "helps"
    if found["holm"] < LEVEL and all(figure["high"] < 0 for figure in figures):
        return "hurts"
    return "no evidence"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """The answer of `compare`; `primary`, `left_out` and `others` are from `ComparedScores.contrast`.

    Attributes
    ----------
    outcome, cause : str
        The outcome, and which cause or class of it is judged.
    modalities : mapping of str to tuple of str
        Name -> node types that are left out together.
    best_unimodal : tuple of str
        The modality of the best unimodal model of each fold.
    channels, parameters : mapping of str to int
        Width and number of parameters of each model.
    budget : mapping
        Parameters of PrognosisModel that were the same for all.
    horizons : tuple of float
        Days; none of a diagnosis.
    patients, events : int
        Scored patients, and those of them with the cause or of the class.
    rows : list of dict
        One row a figure, as `Evaluation.rows`; of events that recur and of states also those of the number,
        and of being in each state, which the contrasts do not judge.
    primary : mapping
        The model of all node types against the best unimodal one.
    left_out : tuple of mapping
        The model of all node types against each leave-one-out model, with Holm's p values.
    others : tuple of mapping
        Further contrasts.
    risks : ModelRisks
        The landmarks that were scored, with the risks of each model.
    parts : tuple of (mapping of str to Model, Landmarks)
        Of each fold the fitted models and its landmarks.
    cut : tuple of str
        What a budget of time left out, in sentences; () without one.
    movement : mapping of str to mapping
        Of each family of the model of all node types: "sd", the standard deviation over landmarks of the
        logit of its risk at the last horizon, and "weight" in the answer, means over folds; empty where one
        family answers.
    rivals : mapping of str to tuple of dict
        Of each rival and fold what it saw, and of one by name its chosen configuration and the score of each.
    """

    outcome: str
    cause: str
    modalities: Mapping[str, tuple[str, ...]]
    best_unimodal: tuple[str, ...]
    channels: Mapping[str, int]
    parameters: Mapping[str, int]
    budget: Mapping[str, Any]
    horizons: tuple[float, ...]
    patients: int
    events: int
    rows: list[dict[str, Any]]
    primary: Mapping[str, Any]
    left_out: tuple[Mapping[str, Any], ...]
    others: tuple[Mapping[str, Any], ...]
    risks: ModelRisks
    parts: tuple[tuple[Mapping[str, Model], Landmarks], ...]
    cut: tuple[str, ...] = ()
    movement: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rivals: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def _summary(self) -> Summary:
        aim = self.cause if self.cause == self.outcome else f"{self.cause} ({self.outcome})"
        title = f"Comparison for {aim}: {counted(self.patients, 'scored patient')}, {self.events} with it"
        facts = [("models", listed(tuple(self.parameters))), ("answer", self.sentence)]
        facts += [("but", self.too_small)] if self.too_small is not None else []
        return Summary(title, facts, [Table(["<"], [(line,) for line in self.sentences])], ["answer", "but"])

    @property
    def too_small(self) -> str | None:
        """Why these figures cannot decide; None where they might."""
        words = {"all labels": "a label", "all classes": "another class than the commonest"}
        fewest, what = self.events, f"with {words.get(self.cause, self.cause)}"
        if self.scores is SCORE_SETS["diagnosis"] and self.patients - self.events < fewest:
            fewest, what = self.patients - self.events, f"without {self.cause}"
        few = fewest < MIN_EVENTS
        return f"too small to judge: {fewest} scored patients {what}" if few else None

    @property
    def scores(self) -> ScoreSet:
        """What it is judged by."""
        if self.risks.landmarks.to is not None:
            return SCORE_SETS["progression"]
        if (kind := self.risks.landmarks.cohort.outcomes[self.outcome].kind) in TOGETHER:
            return SCORE_SETS[kind]
        return SCORE_SETS["survival" if self.horizons else "diagnosis"]

    @property
    def best_in_words(self) -> str:
        """The modality of the best unimodal model, in words."""
        names, counts = np.unique(self.best_unimodal, return_counts=True)
        if len(names) == 1:
            return str(names[0])
        order = np.argsort(-counts, kind="stable")
        each = ", ".join(f"{names[i]} in {counts[i]} of {len(self.best_unimodal)} folds" for i in order)
        return f"the best unimodal model ({each})"

    @property
    def sentence(self) -> str:
        """Whether all node types together do better than the best one, and by how much."""
        rest = [name for name in self.modalities if name != self.best_in_words]
        more = _listed(rest) if len(rest) < len(self.modalities) else "the other node types"
        said = self._sentence(self.primary, f"adding {more} to {self.best_in_words}")
        return f"{said} (weakened by what a budget cut)" if self.weakened else said

    @property
    def weakened(self) -> bool:
        """Whether a budget of time made the verdict weaker: fewer folds, networks, epochs or patients."""
        return any(line.startswith(WEAKENING) for line in self.cut)

    @property
    def sentences(self) -> list[str]:
        """`sentence`, one a modality left out, other contrasts, what was cut, and if it is too small."""
        sentences = [self.sentence]
        for found in self.left_out:
            rest = [name for name in self.modalities if name != found["kind"]]
            sentences.append(self._sentence(found, f"adding {found['kind']} to {_listed(rest)}"))
        for found in self.others:
            one, other = found["first"], found["second"]
            if (one, other) in CONTRASTS:
                sentences.append(self._sentence(found, CONTRASTS[one, other]))
            elif other in self.rivals:
                sentences.append(self._rival_sentence(found))
            elif one.startswith("values "):
                what = f"the last values of {one.removeprefix('values ')}, beside the baseline covariates,"
                sentences.append(self._sentence(found, what))
        if (line := self._sees_sentence()) is not None:
            sentences.append(line)
        if self.movement:
            sentences.append(self._movement_sentence())
        sentences += self.cut
        return sentences if self.too_small is None else [*sentences, self.too_small]

    @property
    def sees(self) -> list[dict[str, Any]]:
        """Values only, timing only, and both: a row each and metric, means over landmarks and horizons.

        Of the network's models, and of the boosted rival where it and its two parts were fitted. Timing only
        is which code was recorded when, how often and in which order, without a value.
        """
        names = dict.fromkeys(row["model"] for row in self.rows)
        found = []
        for parts in SEES:
            if set(parts) <= set(names):
                for what, model in zip(("values only", "timing only", "both"), parts, strict=True):
                    for metric in self.scores.deciding:
                        found.append({"sees": what, **self.value(model, metric)})
        return found

    def _sees_sentence(self) -> str | None:
        """The figures of `sees` in words; None where one of the three was not fitted."""
        rows = [row for row in self.sees if row["model"] in SEES[0]]
        if not rows:
            return None
        each = []
        for metric in self.scores.deciding:
            one = {row["sees"]: row["value"] for row in rows if row["metric"] == metric}
            told = (f"{what} {'-' if value is None else f'{value:.3f}'}" for what, value in one.items())
            each.append(f"{WORDS[metric]}: {', '.join(told)}")
        return "; ".join(each)

    def _rival_sentence(self, found: Mapping[str, Any]) -> str:
        """The difference from a rival, and what that saw."""
        name = found["second"]
        figures = ", ".join(f"{WORDS[metric]} {_signed(found[metric])}" for metric in self.scores.deciding)
        saw = self.rivals[name][0]["saw"]
        told = [f"{saw[word]} {word}" for word in ("landmarks", "times", "patients") if word in saw]
        tried = f", best of {saw['configurations']} configurations" if "configurations" in saw else ""
        seen = f" (fitted on {', '.join(told)} in the first fold{tried})" if told else ""
        word = {"helps": "better than", "hurts": "worse than"}.get(
            found["verdict"], "no evidence of a difference from"
        )
        return f"all families together, beside {name}{seen}: {word} it: {figures}"

    def _movement_sentence(self) -> str:
        """How far each family moves the answer, in words."""
        each = [
            f"{name} {moved['sd']:.2f} (weight {moved['weight']:.2f})"
            for name, moved in self.movement.items()
        ]
        return f"standard deviation of the logit of the risk by each family alone: {', '.join(each)}"

    def _sentence(self, found: Mapping[str, Any], what: str) -> str:
        """The verdict of a contrast on adding something, in one line."""
        aim = self.cause if self.cause == self.outcome else f"{self.cause} ({self.outcome})"
        figures = ", ".join(f"{WORDS[metric]} {_signed(found[metric])}" for metric in self.scores.deciding)
        if found["kind"] is not None:
            figures += f", Holm p {found['holm']:.2g}"
        if found["verdict"] == "helps":
            return f"{what} helps to forecast {aim}: {figures}"
        if found["verdict"] == "hurts":
            return f"no evidence that {what} helps to forecast {aim}, it harms: {figures}"
        each = [found[metric] for metric in self.scores.deciding]
        if all(figure[key] == 0 for figure in each for key in ("value", "low", "high")):
            figures = "with and without it every answer is the same"
        return f"no evidence that {what} helps to forecast {aim}: {figures}"

    def value(
        self,
        model: str,
        metric: str,
        landmark: float | None = None,
        horizon: float | None = None,
        *,
        cause: str | None = None,
    ) -> dict[str, Any]:
        """The row of one figure.

        Parameters
        ----------
        model : str
            A model, or a difference such as "gnn-late".
        metric : str
            Name of the score.
        landmark, horizon : float, optional
            Days; None for the mean over all.
        cause : str, optional
            A state, of the figures of being in it; default: the cause that is judged.

        Returns
        -------
        dict

        Raises
        ------
        InputError
            When there is no such row.
        """
        key = (model, metric, landmark, horizon, self.cause if cause is None else cause)
        for row in self.rows:
            if tuple(row[name] for name in ("model", "metric", "landmark", "horizon", "cause")) == key:
                return row
        known = dict.fromkeys(row["model"] for row in self.rows)
        if model not in known:
            raise InputError(f"no model {model!r}{near(model, known)}")
        raise InputError(f"no {metric} of {model} at landmark {landmark}, horizon {horizon}")

    def to_dict(self) -> dict[str, Any]:
        """Everything for `compare --json`; what is not estimable is None.

        A contrast has first, second, kind (left out), c and scaled_ibs, or auc and scaled_brier of a
        diagnosis (value, low, high of the difference of the means over landmarks and horizons), p, holm and
        verdict (helps, hurts, no evidence, not estimable).

        Returns
        -------
        dict
        """
        return {
            "outcome": self.outcome,
            "cause": self.cause,
            "sentence": self.sentence,
            "sentences": self.sentences,
            "too_small": self.too_small,
            "patients": self.patients,
            "events": self.events,
            "modalities": {name: list(kinds) for name, kinds in self.modalities.items()},
            "best_single": list(self.best_unimodal),
            "budget": dict(self.budget),
            "channels": dict(self.channels),
            "parameters": dict(self.parameters),
            "primary": dict(self.primary),
            "left_out": [dict(found) for found in self.left_out],
            "others": [dict(found) for found in self.others],
            "movement": {name: dict(moved) for name, moved in self.movement.items()},
            "sees": self.sees,
            "rivals": {name: [dict(fold) for fold in folds] for name, folds in self.rivals.items()},
            "intervals": "resample patients; the fitted models are held fixed",
            **({"cut": list(self.cut)} if self.cut else {}),
            "rows": self.rows,
        }


def _signed(figure: Mapping[str, float | None]) -> str:
    """A difference with its interval, in words."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return "not estimable"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
