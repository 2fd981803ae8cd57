"""Fits every model of a comparison with the same budget and networks of about as many parameters."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.progress import Progress
from gnnpatient.study.ablations import Comparator, RestrictedModel
from gnnpatient.study.fitted import GRAPH

MAX_WIDTH_RATIO = 4  # to the width of the first network, for as many parameters


@dataclass(eq=False)
class ComparatorFitter:
    """Fits comparators with the same budget.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    horizon : float or None
        Last horizon in days; None for a diagnosis.
    budget : mapping
        Parameters of PrognosisModel that are the same for all.
    progress : Progress or None
        Called after each fit.
    total : int
        Number of fits, for `progress`.
    done : int
        Number of fits so far.
    channels, parameters : dict of str to int
        Width and number of parameters of each comparator, by its name.
    """

    outcome: str
    horizon: float | None  # None: a diagnosis
    budget: Mapping[str, Any]  # choices of PrognosisModel, the same for all
    progress: Progress | None
    total: int
    done: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)

    def model(self, one: Comparator, **choices: Any) -> PrognosisModel:
        """An unfitted model of a comparator.

        Parameters
        ----------
        one : Comparator
            What the model sees.
        **choices
            Parameters of PrognosisModel that differ from the budget.

        Returns
        -------
        PrognosisModel
        """
        budget = {**self.budget, **one.choices, **choices}
        if len(one.kinds) < 2:
            # to hide the only node type would be to hide everything
            budget["kind_dropout"] = 0.0
        return PrognosisModel(outcomes=[self.outcome], horizon=self.horizon, **budget)

    def fit(self, one: Comparator, X: Landmarks, what: str) -> RestrictedModel:
        """Fit a comparator; its width is chosen at its first fit.

        Parameters
        ----------
        one : Comparator
            What the model sees; the first one of all is that of all node types.
        X : Landmarks
            Training landmarks.
        what : str
            The step, for `progress`.

        Returns
        -------
        RestrictedModel
        """
        if one.name not in self.channels:
            self._size(one, X)
        model = self.model(one, channels=self.channels[one.name]).fit(one.landmarks(X))
        self.counted(f"{what}: {one.name}")
        return RestrictedModel(model, one.cohort)

    def counted(self, what: str) -> None:
        """Count a fit, and say so.

        Parameters
        ----------
        what : str
            The step and the model.
        """
        self.done += 1
        if self.progress is not None:
            self.progress(what, self.done, self.total)

    def _size(self, one: Comparator, X: Landmarks) -> None:
        """Choose the width at which a network has about as many parameters as that of the first comparator.

        A model that is not trained shows which codes it sees and which weights it has.
        """
        width = int(self.budget["channels"])
        model = self.model(one, members=1, epochs=0)
        if GRAPH not in model.families:
            self.channels[one.name], self.parameters[one.name] = width, 0
            return
        fitted = model.set_params(families=(GRAPH,)).fit(one.landmarks(X)).predictor_
        module = fitted.families[GRAPH].modules[0]

        def count(channels: int) -> int:
            config = replace(module.config, channels=channels)
            return sum(p.numel() for p in PatientGNN(config, fitted.vocabulary, fitted.heads).parameters())

        if self.parameters:
            step = 4  # attention heads, a quarter of the channels each
            widths, wanted = (
                range(step, MAX_WIDTH_RATIO * width + 1, step),
                next(iter(self.parameters.values())),
            )
            above = min(bisect.bisect_left(widths, wanted, key=count), len(widths) - 1)
            width = min(widths[max(above - 1, 0) : above + 1], key=lambda c: abs(count(c) - wanted))
        self.channels[one.name], self.parameters[one.name] = width, count(width)
