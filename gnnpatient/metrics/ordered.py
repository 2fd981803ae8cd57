"""Scores of forecasts of ordered classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from gnnpatient.errors import InputError
from gnnpatient.metrics.incidence import Rows, quotient


def ranked_probability(
    probability: Float[np.ndarray, "row class"], label: Int[np.ndarray, " row"], *, weight: Rows | None = None
) -> float:
    """Ranked probability score: the Brier score of "at least this class", mean over all but the lowest.

    0 is best. A forecast one class off costs less than one two classes off. Of two classes it is the Brier
    score.

    Parameters
    ----------
    probability : (row, class) float
        Forecast of each class, from the lowest to the highest.
    label : (row,) int
        Position of the class that came; -1 = not known, such a row does not count.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan without a row.

    Raises
    ------
    InputError
        When there are fewer than two classes.

    References
    ----------
    Epstein 1969, J. Appl. Meteorol. 8:985. Murphy 1971, J. Appl. Meteorol. 10:155.

    Examples
    --------
    >>> forecast = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    >>> ranked_probability(forecast, np.array([2, 0])), ranked_probability(forecast, np.array([2, 1]))
    (0.5, 0.25)
    """
    if probability.shape[1] < 2:
        raise InputError(f"{probability.shape[1]} class; a ranked probability score needs two or more")
    known, weight = label >= 0, np.ones(len(label)) if weight is None else np.asarray(weight, float)
    at_least = probability[known, ::-1].cumsum(1)[:, -2::-1]
    came = label[known, None] >= np.arange(1, probability.shape[1])
    return quotient(float(weight[known] @ np.square(at_least - came).mean(1)), float(weight[known].sum()))


def weighted_kappa(
    forecast: Int[np.ndarray, " row"],
    label: Int[np.ndarray, " row"],
    classes: int,
    *,
    weight: Rows | None = None,
) -> float:
    """Cohen's kappa with squared distances: agreement of forecast and true classes beyond chance; 1 is best.

    0 is what the same shares of forecasts would reach by chance, so a forecast that is the same for everybody
    has 0.

    Parameters
    ----------
    forecast : (row,) int
        Position of the class that is forecast.
    label : (row,) int
        Position of the class that came; -1 = not known, such a row does not count.
    classes : int
        Number of classes.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where both are of one class alone, or without a row.

    References
    ----------
    Cohen 1968, Psychol. Bull. 70:213.

    Examples
    --------
    >>> label = np.array([0, 1, 2, 2])
    >>> weighted_kappa(label, label, 3), weighted_kappa(np.ones(4, int), label, 3)
    (1.0, 0.0)
    """
    known, weight = label >= 0, np.ones(len(label)) if weight is None else np.asarray(weight, float)
    table = np.zeros((classes, classes))
    np.add.at(table, (forecast[known], label[known]), weight[known])
    distance = np.square(np.subtract.outer(np.arange(classes), np.arange(classes)))
    by_chance = np.outer(table.sum(1), table.sum(0))
    away = quotient(float((distance * table).sum() * table.sum()), float((distance * by_chance).sum()))
    return 1.0 - away
