"""What events that recur and outcomes of several states have in common: counts and exposure on a grid."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.model.heads import HeadConfig
from gnnpatient.prognosis.disclosure import coarse_counts
from gnnpatient.prognosis.targets import SurvivalTarget


class PathTarget(SurvivalTarget):
    """What came of each landmark, for one outcome of several transitions.

    Attributes
    ----------
    count : ndarray or None
        How often each transition happened in each interval of the head's grid, see `posed`.
    exposure : ndarray or None
        The share of each interval in which it could have.
    """

    count: np.ndarray | None  # (landmark, transition, time) float32
    exposure: np.ndarray | None  # (landmark, transition, time) float32

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Counts and exposure, as `PathHead.loss` takes them."""
        assert self.count is not None and self.exposure is not None
        return self.count, self.exposure

    @abstractmethod
    def counted(self, times: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Count each transition in each interval, and say for how much of it a patient was at risk of it.

        Parameters
        ----------
        times : tuple of float
            Ends of the intervals in days after the landmark; each is (start, end].

        Returns
        -------
        count, exposure : ndarray
            (landmark, transition, time) float32; nothing of those not at risk.
        """

    def posed(self, head: HeadConfig, landmarks: Landmarks, name: str, least: int = 1) -> PathTarget:
        """With the counts and the exposure of each transition on the head's time grid.

        The grid has events of enough patients in each interval, but of all transitions together; what is
        learned of one is spread over intervals in which enough patients had it, see `coarse_counts`.

        Parameters
        ----------
        head : HeadConfig
            From `head_config`.
        landmarks : Landmarks
            Those of this target.
        name : str
            Name of the outcome.
        least : int
            Fewest patients that a figure may be of to be written down, default 1.

        Returns
        -------
        PathTarget
        """
        count, exposure = coarse_counts(*self.counted(head.times), landmarks.patient, head.times, least)
        return cast(PathTarget, replace(cast(Any, self), count=count, exposure=exposure))
