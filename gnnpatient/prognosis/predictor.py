"""Fitted families and what it takes to forecast with them. No scikit-learn, no polars, no torch-geometric."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import ENTRY, Landmarks, check_landmarks
from gnnpatient.errors import InputError
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.values import ProgressionConfig
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.device import deterministic, resolve_device
from gnnpatient.prognosis.disclosure import counted
from gnnpatient.prognosis.forecast import Answer, Forecast, Forecasts
from gnnpatient.prognosis.inputs import (
    differences,
    in_known_units,
    refuse_strangers,
    restrict,
    unit_here,
)
from gnnpatient.prognosis.kinds import KINDS
from gnnpatient.prognosis.marginal import at_landmarks
from gnnpatient.prognosis.problem import Family
from gnnpatient.prognosis.rows import answerable
from gnnpatient.prognosis.stack import MARGINAL, Stack
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.show import Shown, Summary, listed
from gnnpatient.show import counted as shown_count
from gnnpatient.times import duration

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort

MAX_OUTCOMES = 3  # with a line of their own in a repr
CHUNK = 1024  # landmarks per batch


def probabilities(answer: Tensor, head: HeadConfig) -> np.ndarray:
    """What a family answers, as probabilities.

    Parameters
    ----------
    answer : Tensor
        (member, landmark, ...) from `Family.forecast`: log hazards or log probabilities.
    head : HeadConfig
        What is predicted.

    Returns
    -------
    ndarray
        (member, landmark, ...) float64: incidence with slot 0 event-free, or probabilities of classes.
    """
    members, size = answer.shape[:2]
    # normalised once more in float64, so that the slots sum to one to its precision
    flat = answer.flatten(0, 1).double()
    found = head.probabilities(flat)
    return found.reshape(members, size, *head.shape).cpu().numpy()


def _shares(weights: Mapping[str, float]) -> str:
    """Weights in words, the largest first."""
    order = sorted(weights.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {weight:.0%}" for name, weight in order if weight)


@dataclass(frozen=True, eq=False, repr=False)
class Predictor(Shown):
    """Fitted families of models and what they need to forecast. Holds no patient.

    Attributes
    ----------
    families : mapping of str to Family
        Each with the same number of members, by its name.
    stacks : mapping of str to Stack
        How much of the answer each family gives, by outcome.
    heads : mapping of str to HeadConfig
        What is forecast, by outcome.
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    bases : mapping of str to Basis
        Principal axes of the vectors of each node type.
    kinds : tuple of str or None
        Node types that the model sees; None: all of the cohort's.
    null : mapping of str to ndarray
        The forecast without inputs by outcome: Aalen-Johansen (1 + cause, time) of the training landmarks, or
        shares (class,).
    about : mapping
        Counts and names of the training data, for the card.
    nulls : mapping of str to tuple of ndarray
        The forecast without inputs at some landmark times, see `marginal.landmark_marginals`.
    calibrations : mapping of str to Calibration
        By outcome, how surprising what came was to members that had not seen the patient; without those of
        which too few were held out.
    """

    families: Mapping[str, Family]
    stacks: Mapping[str, Stack]
    heads: Mapping[str, HeadConfig]
    vocabulary: Vocabulary
    bases: Mapping[str, Basis]
    kinds: tuple[str, ...] | None
    null: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the outcomes."""
        return tuple(self.heads)

    @property
    def members(self) -> int:
        """How often each family was fitted."""
        return next(iter(self.families.values())).members

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """By outcome, how much of the answer each family gives."""
        return {name: dict(stack.weights) for name, stack in self.stacks.items()}

    def summary(self, least: int | None = None) -> Summary:
        """Say in a few lines what is forecast, and on how many patients it was fitted.

        Parameters
        ----------
        least : int, optional
            Fewest patients that a count may be of; default: no counts.

        Returns
        -------
        Summary
        """
        events, facts = self.about.get("events", {}), list[tuple[str, str]]()
        for name in self.outcomes[:MAX_OUTCOMES]:
            head = self.heads[name]
            named = head.names
            counts = events.get(name, {}) if least is not None else {}
            of = [f"{n} ({counted(counts[n], least or 1)} patients)" if n in counts else n for n in named]
            until = f", up to {duration(head.times[-1])} after the landmark" if head.times else ""
            facts.append((name, f"{head.kind}: {listed(of)}{until}"))
        if more := len(self.outcomes) - MAX_OUTCOMES:
            facts += [("", f"and {more} more outcomes")] if more > 0 else []
        if least is not None and "patients" in self.about:
            size, asks = (counted(self.about[what], least) for what in ("patients", "asks"))
            facts.append(("fitted on", f"{self.about.get('cohort', '?')}: {size} patients, {asks} landmarks"))
        kinds = tuple(self.vocabulary.codes) if self.kinds is None else self.kinds
        facts.append(("sees", listed([kind for kind in kinds if kind != "timepoint"] or ["statics alone"])))
        names = tuple(self.families)
        for name, stack in list(self.stacks.items())[:MAX_OUTCOMES] if len(names) > 1 else ():
            who = KINDS[self.heads[name].kind].target.TEACHING
            said = "" if stack.learned else f"; not learned, too few {who}"
            facts.append((f"who answers {name}", _shares(stack.weights) + said))
            if stack.about_graph:
                facts.append(("the graph", stack.about_graph))
        title = f"Fitted model: {listed(names)}, {shown_count(self.members, 'member')}"
        return Summary(title if len(names) == 1 else f"{title} each", facts)

    def _summary(self) -> Summary:
        return self.summary()

    def null_at(self, outcome: str, landmarks: Landmarks) -> np.ndarray:
        """Forecast without any input.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        landmarks : Landmarks
            Patients at prediction times.

        Returns
        -------
        ndarray
            (landmark, 1 + cause, time) or (landmark, class).
        """
        return at_landmarks(landmarks, self.null[outcome], self.nulls.get(outcome))

    def forecast(
        self, landmarks: Landmarks, device: str = "auto", families: str | Collection[str] | None = None
    ) -> Forecasts:
        """Forecast each outcome: the families' weighted mean by member, and the mean over members.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.
        device : str
            Where to compute, see `resolve_device`; default ``"auto"``.
        families : str or collection of str, optional
            Who answers: names of families, as ``"linear"`` or ``["linear", "graph"]``, or ``"nograph"`` for
            all but the graph with the weights that were learned without it; default: all.

        Returns
        -------
        Forecasts
            A dict of str to Forecast, DiagnosisForecast or ProgressionForecast.

        Raises
        ------
        InputError
            When the cohort holds something that the model cannot read, see `see`.
        """
        where = resolve_device(device)
        seen = self.see(check_landmarks(landmarks, "forecast"))
        weights = {name: stack.chosen(families) for name, stack in self.stacks.items()}
        asked = [one for one in self.families if any(one in some for some in weights.values())]
        for one in asked:
            self.families[one].to(where)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.outcomes}
        with deterministic(where), torch.inference_mode():
            for begin in range(0, max(len(seen), 1), CHUNK):
                chunk = seen[begin : begin + CHUNK]
                graphs = build_graphs(chunk)
                answers = {one: self.families[one].forecast(graphs) for one in asked}
                for name, head in self.heads.items():
                    mixed = np.zeros((self.members, len(chunk), *head.shape))
                    for one, weight in weights[name].items():
                        if one == MARGINAL:
                            mixed += weight * self.null_at(name, chunk)
                        else:
                            mixed += weight * probabilities(answers[one][name], head)
                    parts[name].append(mixed)
        found = {
            name: self._forecast(name, np.concatenate(parts[name], 1), landmarks) for name in self.outcomes
        }
        for name, head in self.heads.items():
            answer = found[name]
            if not (isinstance(answer, ProgressionForecast) and isinstance(head, ProgressionConfig)):
                continue
            if here := unit_here(self.about.get("inputs", {}), landmarks.cohort, head.node, head.codes):
                answer = answer.in_unit(*here)
            if head.gone:
                curves = found[head.gone]
                assert isinstance(curves, Forecast)
                answer = answer.with_alive(curves.event_free, curves.times)
            found[name] = answer
        if families is None:  # of a part of the model nothing is calibrated
            for name, calibration in self.calibrations.items():
                found[name] = replace(found[name], calibration=calibration)
        return Forecasts(found)

    def _forecast(self, name: str, members: np.ndarray, landmarks: Landmarks) -> Answer:
        head, at_risk = self.heads[name], answerable(landmarks, name)
        members[:, ~at_risk] = np.nan
        return KINDS[head.kind].forecast.of_members(name, head, members, landmarks, at_risk)

    def see(self, landmarks: Landmarks) -> Landmarks:
        """The landmarks as this model sees them: its node types alone, each code in the unit that it knows.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.

        Returns
        -------
        Landmarks

        Raises
        ------
        InputError
            When the cohort has a node type, a static column or a unit that the model does not know, or images
            or texts embedded by another encoder, or after other steps, than those it was fitted on.
        """
        seen = restrict(landmarks, self.kinds)
        theirs = seen.cohort.report.get("encoders", {})
        for kind, fitted in self.about.get("encoders", {}).items():
            if (other := theirs.get(kind, fitted)) != fitted and len(seen.cohort.events[kind]):
                raise InputError(
                    f"{kind}: embedded by {other!r}, the model by {fitted!r}; pack it with the same choices"
                )
        if (known := self.about.get("inputs")) is None:
            return seen
        vocabulary = self.vocabulary
        refuse_strangers(known, vocabulary.codes, vocabulary.numbers, vocabulary.levels, seen)
        cohort = in_known_units(known, seen.cohort)
        return Landmarks(cohort, seen.patient, seen.at, seen.to)

    def differences(self, landmarks: Landmarks) -> list[str]:
        """Compare these landmarks with those of training: node types, units, ranges, levels.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.

        Returns
        -------
        list of str
            Sentences with names and shares.
        """
        seen = restrict(landmarks, self.kinds)
        vocabulary, inputs = self.vocabulary, self.about.get("inputs", {})
        lacking = [kind for kind in inputs.get("codes", {}) if kind not in seen.cohort.codes]
        return [
            *(f"node type {kind!r} is not here; every patient counts as one without it" for kind in lacking),
            *differences(inputs, vocabulary.levels, seen, vocabulary.bounded),
        ]

    def outside(self, landmarks: Landmarks) -> np.ndarray:
        """Find the landmarks before or after the days of the training landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        if (span := self.about.get("landmarks")) is None:
            return np.zeros(len(landmarks), bool)
        slack = 0.05 * max(abs(span[0]), abs(span[1])) + 0.01  # the span is rounded
        outside = (landmarks.days < span[0] - slack) | (landmarks.days > span[1] + slack)
        return outside & ~(self.about.get("at_entry", False) & (landmarks.moments == ENTRY))

    def unknown(self, asked: Cohort | Landmarks) -> dict[str, list[str]]:
        """List what the model has no name for.

        Parameters
        ----------
        asked : Cohort or Landmarks
            A whole cohort, or the rows that are visible at some landmarks.

        Returns
        -------
        dict of str to list of str
            By node type the codes that were rare or unknown in training, or ``["*"]`` for a whole node type.
        """
        codes = self.vocabulary.codes
        found = {}
        cohort = asked.cohort if isinstance(asked, Landmarks) else asked
        for kind in cohort.spec.nodes:
            if self.kinds is not None and kind not in self.kinds:
                continue  # left out by choice
            here = cohort.codes[kind]
            strange = sorted(set(here) - set(codes[kind])) if kind in codes else ["*"]
            if strange and isinstance(asked, Landmarks):
                events = cohort.events[kind]
                seen = {
                    here[c] for c in np.unique(events.code[events.visible_rows(asked.patient, asked.at)[2]])
                }
                strange = [c for c in strange if c in seen or (c == "*" and seen and kind not in codes)]
            if strange:
                found[kind] = strange
        return found
