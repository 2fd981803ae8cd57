"""Scores of forecasts, under censoring and competing risks, and their intervals: pure numpy functions.

One row is one landmark. `time` runs from the landmark to the event or the end of observation, in any unit
that `horizon` shares (days in this package). `event` is 0 for censored, k for cause k. `risk` is the
forecast probability of `cause` by `horizon`; `auc` and `concordance` take any score that rises with it.
`weight` counts how often a row was drawn, so that a bootstrap needs no copies. An event at the horizon has
happened by it; rows "beyond" it are followed longer.

Rows censored before the horizon are represented by the others (inverse probability of censoring weights,
IPCW): a case or a competing event at T weighs 1/G(T-), a row beyond the horizon h weighs 1/G(h). Where G(h)
< .1 or fewer than 20 rows (patients, where `patient` says whose each row is) are beyond h, every score is
nan, and `not_estimable` says why. Elsewhere G(T-) >= G(h) >= .1, so no weight exceeds 10 and none is ever
capped, unless each row has a G of its own (`CoxCensoring`).

Forecasts of values (`rmse`, `mae`, `crps`, `coverage` and so on) are scored where a value was seen.
"""

from gnnpatient.metrics.calibration import calibration_curve, calibration_slope, ici, observed_expected
from gnnpatient.metrics.coherence import Coherence, coherence
from gnnpatient.metrics.decision import net_benefit
from gnnpatient.metrics.horizon import AtHorizon, at_horizon, at_horizons, labelled, not_estimable
from gnnpatient.metrics.incidence import (
    Censoring,
    CoxCensoring,
    aalen_johansen,
    censoring,
    cox_censoring,
    cumulative_incidence,
)
from gnnpatient.metrics.ordered import ranked_probability, weighted_kappa
from gnnpatient.metrics.recurrent import SeenNumber, mean_number, seen_number
from gnnpatient.metrics.resampling import bootstrap, interval
from gnnpatient.metrics.scores import (
    SCORES,
    auc,
    average_precision,
    brier,
    concordance,
    integrate,
    integrated_brier,
)
from gnnpatient.metrics.states import SeenStates, Stays, seen_states, transition_probabilities
from gnnpatient.metrics.values import (
    coverage,
    crps,
    crps_of,
    crps_of_quantiles,
    mae,
    pinball,
    rmse,
    width,
)

__all__ = [
    "SCORES",
    "AtHorizon",
    "Censoring",
    "Coherence",
    "CoxCensoring",
    "SeenNumber",
    "SeenStates",
    "Stays",
    "aalen_johansen",
    "at_horizon",
    "at_horizons",
    "auc",
    "average_precision",
    "bootstrap",
    "brier",
    "calibration_curve",
    "calibration_slope",
    "censoring",
    "coherence",
    "concordance",
    "coverage",
    "cox_censoring",
    "crps",
    "crps_of",
    "crps_of_quantiles",
    "cumulative_incidence",
    "ici",
    "integrate",
    "integrated_brier",
    "interval",
    "labelled",
    "mae",
    "mean_number",
    "net_benefit",
    "not_estimable",
    "observed_expected",
    "pinball",
    "ranked_probability",
    "rmse",
    "seen_number",
    "seen_states",
    "transition_probabilities",
    "weighted_kappa",
    "width",
]
