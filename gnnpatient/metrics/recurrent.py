"""Numbers of events that recur: the mean over time, and how far a forecast of it is off, under censoring.

The events of all rows are two arrays: `owner`, the row of each, and `happened`, its time after the landmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from gnnpatient.metrics.horizon import not_estimable
from gnnpatient.metrics.incidence import Cause, Rows, aalen_johansen, censoring, checked_rows

Owner = Int[np.ndarray, " event"]
Happened = Num[np.ndarray, " event"]


def mean_number(
    owner: Owner,
    happened: Happened,
    end: Rows,
    gone: Cause,
    at: Num[np.ndarray, " time"],
    *,
    weight: Rows | None = None,
) -> Float[np.ndarray, " time"]:
    """Mean number of events by some times, where what ends them is no censoring [1]_ [2]_.

    Of those still followed the rate of events, times the probability of not being gone: the dead have no
    further events, and stay in the mean.

    Parameters
    ----------
    owner : (event,) int
        The row of each event.
    happened : (event,) float
        Its time after the landmark, at most `end` of its row.
    end : (row,) float
        From the landmark to the end of observation.
    gone : (row,) int
        Whether that is an end for good (above 0), as death is; 0 = censored.
    at : (time,) float
        Times at which the mean is wanted.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    (time,) float
        Never falls.

    References
    ----------
    .. [1] Cook RJ, Lawless JF. Marginal analysis of recurrent events and a terminating event. Statistics in
       Medicine 16:911-924, 1997.
    .. [2] Ghosh D, Lin DY. Nonparametric analysis of recurrent events and death. Biometrics 56:554-562, 2000.

    Examples
    --------
    >>> owner, happened = np.array([0, 0, 1]), np.array([1.0, 3.0, 1.0])
    >>> mean_number(owner, happened, np.array([4.0, 2.0]), np.array([0, 1]), np.array([1.0, 4.0]))
    array([1. , 1.5])
    """
    end, gone, weight = checked_rows(end, gone, weight)
    when, place = np.unique(happened, return_inverse=True)
    events = np.bincount(place, weight[owner], minlength=len(when))
    order = np.argsort(end, kind="stable")
    before = np.append(0.0, weight[order].cumsum())[np.searchsorted(end[order], when, "left")]
    followed = weight.sum() - before  # an event at the end of observation is seen
    ended, just = (gone > 0).astype(np.int64), np.nextafter(when, -1)
    here = aalen_johansen(end, ended, just, causes=1, weight=weight)[0]
    steps = here * np.divide(events, followed, out=np.zeros(len(when)), where=followed > 0)
    return np.append(0.0, steps.cumsum())[np.searchsorted(when, at, "right")]


@dataclass(frozen=True, eq=False)
class SeenNumber:
    """How many events each row shows by a horizon, the later ones for more where some rows are censored.

    Attributes
    ----------
    number : (row,) float
        The sum of 1/G(T-) over its events T up to the horizon: on average the number without censoring.
    weight : (row,) float
        How often each row counts.
    """

    number: Rows
    weight: Rows

    def observed_expected(self, forecast: Rows) -> float:
        """The number of events over that of a forecast.

        Parameters
        ----------
        forecast : (row,) float
            Expected number by the horizon.

        Returns
        -------
        float
            1 where as many came as were expected, above where more did; nan where none were expected.

        Examples
        --------
        >>> SeenNumber(np.array([0.0, 3.0]), np.ones(2)).observed_expected(np.array([1.0, 1.0]))
        1.5
        """
        expected = float(self.weight @ forecast)
        return float(self.weight @ self.number) / expected if expected > 0 else np.nan

    def squared_error(self, forecast: Rows) -> float:
        """The mean squared error of a forecast of the number, up to a constant that is the same for all [1]_.

        Proper for the mean: on average no forecast is better than the true expected number. What the
        numbers scatter around that is in it, too, so that it is read beside that of the marginal model.

        Parameters
        ----------
        forecast : (row,) float
            Expected number by the horizon.

        Returns
        -------
        float

        References
        ----------
        .. [1] Bouaziz O. Assessing model prediction performance for the expected cumulative number of
           recurrent events. Lifetime Data Analysis 30:262-289, 2024.

        Examples
        --------
        >>> SeenNumber(np.array([0.0, 3.0]), np.ones(2)).squared_error(np.array([1.0, 1.0]))
        2.5
        """
        return float(self.weight @ np.square(self.number - forecast)) / float(self.weight.sum())


def seen_number(
    owner: Owner,
    happened: Happened,
    end: Rows,
    gone: Cause,
    horizon: float,
    *,
    weight: Rows | None = None,
    patient: np.ndarray | None = None,
) -> SeenNumber | None:
    """Count the events of each row up to a horizon, for those who are censored before it, too.

    Parameters
    ----------
    owner : (event,) int
        The row of each event.
    happened : (event,) float
        Its time after the landmark, at most `end` of its row.
    end : (row,) float
        From the landmark to the end of observation.
    gone : (row,) int
        Whether that is an end for good (above 0), as death is; 0 = censored.
    horizon : float
        In the unit of `end`.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    patient : (row,) int, optional
        Which patient each row is of. Default: each row is another patient.

    Returns
    -------
    SeenNumber or None
        None where nothing can be estimated, see `not_estimable`.

    Examples
    --------
    >>> end, gone = np.repeat([1.0, 3.0], 30), np.zeros(60, int)
    >>> seen = seen_number(np.array([31]), np.array([2.0]), end, gone, 2.5)
    >>> float(seen.number.sum())                       # half of them are censored by then
    2.0
    """
    end, gone, weight = checked_rows(end, gone, weight)
    if not_estimable(end, gone, horizon, weight=weight, patient=patient) is not None:
        return None
    staying = censoring(end, gone, weight=weight)
    here = happened <= horizon
    counted = np.bincount(owner[here], 1 / staying.left(happened[here]), minlength=len(end))
    return SeenNumber(counted.astype(np.float64), weight)
