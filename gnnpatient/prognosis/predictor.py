"""Fitted networks and what it takes to forecast with them. No scikit-learn, no polars, no torch-geometric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.errors import InputError
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.device import deterministic, resolve_device
from gnnpatient.prognosis.forecast import Answer, answerable
from gnnpatient.prognosis.inputs import (
    differences,
    in_known_units,
    refuse_strangers,
    restrict,
)
from gnnpatient.prognosis.kinds import KINDS
from gnnpatient.prognosis.marginal import nearest

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort

CHUNK = 1024  # asks answered at a time


@dataclass(frozen=True, eq=False)
class Predictor:
    """Fitted networks and what it takes to ask them. Holds no patient."""

    modules: tuple[PatientGNN, ...]
    kinds: tuple[str, ...] | None  # node kinds it sees; None = all of the cohort's
    null: Mapping[str, np.ndarray]  # the training asks' Aalen-Johansen (1 + cause, time), or shares (class,)
    about: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the training data, for the card: counts and names

    nulls: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict
    )  # the same at some landmarks: (landmark,) days, nan = entry, and (landmark, ...) tables

    @property
    def outcomes(self) -> tuple[str, ...]:
        return self.modules[0].outcomes

    def null_at(self, outcome: str, landmarks: Landmarks) -> np.ndarray:
        """What is said without any input at these asks: (ask, ...)."""
        if outcome in self.nulls:
            return nearest(landmarks, *self.nulls[outcome])
        return np.repeat(self.null[outcome][None], len(landmarks), 0)

    def forecast(self, landmarks: Landmarks, device: str = "auto") -> dict[str, Answer]:
        """The forecast of each outcome, the mean over members."""
        where = resolve_device(device)
        seen = self.see(landmarks)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.outcomes}
        for module in self.modules:
            module.to(where).eval()
        with deterministic(where), torch.inference_mode():
            for begin in range(0, max(len(seen), 1), CHUNK):
                graphs = build_graphs(seen[begin : begin + CHUNK]).to(where)
                answers = [module(graphs) for module in self.modules]
                for name in self.outcomes:
                    head = self.modules[0].head(name)
                    # normed once more in float64, so that the slots sum to one to its precision
                    predictions = [head.predict(a[name].double().log_softmax(1)) for a in answers]
                    parts[name].append(torch.stack(predictions).cpu().numpy())
        return {
            name: self._forecast(name, np.concatenate(parts[name], 1), landmarks) for name in self.outcomes
        }

    def _forecast(self, name: str, members: np.ndarray, landmarks: Landmarks) -> Answer:
        head, at_risk = self.modules[0].head(name).config, answerable(landmarks, name)
        members[:, ~at_risk] = np.nan
        return KINDS[head.kind].forecast.of_members(name, head, members, landmarks, at_risk)

    def see(self, landmarks: Landmarks) -> Landmarks:
        """The asks with the node kinds alone that this model sees, each code in the unit that it knows.

        Refused: a kind, a static column or a unit of which the model knows nothing; pictures or texts
        embedded by another encoder than those it was fitted on, or after other steps.
        """
        seen = restrict(landmarks, self.kinds)
        theirs = seen.cohort.report.get("encoders", {})
        for kind, own in self.about.get("encoders", {}).items():
            if (other := theirs.get(kind, own)) != own and len(seen.cohort.events[kind]):
                raise InputError(
                    f"{kind}: embedded by {other!r}, the model by {own!r}; pack it with the same choices"
                )
        if (known := self.about.get("inputs")) is None:
            return seen
        vocabulary = self.modules[0].vocabulary
        refuse_strangers(known, vocabulary.codes, vocabulary.numbers, vocabulary.levels, seen)
        cohort = in_known_units(known, seen.cohort)
        return Landmarks(cohort, seen.patient, seen.at, seen.to)

    def differences(self, landmarks: Landmarks) -> list[str]:
        """How these asks differ from those of training: units, ranges, levels, as sentences with shares."""
        seen = restrict(landmarks, self.kinds)
        vocabulary = self.modules[0].vocabulary
        return differences(self.about.get("inputs", {}), vocabulary.levels, seen, vocabulary.bounded)

    def outside(self, landmarks: Landmarks) -> np.ndarray:
        """Which asks lie before or after the days at which patients were asked in training: (ask,) bool."""
        if (span := self.about.get("landmarks")) is None:
            return np.zeros(len(landmarks), bool)
        slack = 0.05 * max(abs(span[0]), abs(span[1])) + 0.01  # the span is rounded
        outside = (landmarks.days < span[0] - slack) | (landmarks.days > span[1] + slack)
        return outside & ~(self.about.get("at_entry", False) & (landmarks.moments == ENTRY))

    def unknown(self, asked: Cohort | Landmarks) -> dict[str, list[str]]:
        """What this cohort has, or the rows that these asks see, and the model has no name for: by kind the
        codes that were rare or unknown in training, or `["*"]` for a whole kind.
        """
        codes = self.modules[0].vocabulary.codes
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
