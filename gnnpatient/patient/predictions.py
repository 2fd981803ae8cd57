"""The risks of every patient of a cohort at some landmarks: a table, a file, MEDS labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort, Landmarks, join_landmarks
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, atomic_folder, file_name, inside
from gnnpatient.ingest.quarantine import disarmed
from gnnpatient.prognosis.conformal import LEVEL, uncalibrated
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.values import QUANTILES, ProgressionForecast
from gnnpatient.study.fitted import FittedModel, unknown_notes
from gnnpatient.times import DAY

if TYPE_CHECKING:
    from gnnpatient.prognosis.run import Run


@dataclass(frozen=True)
class _Kind:
    """How the forecasts of a kind of outcome become rows."""

    table: Callable[[Any, Sequence[float]], pl.DataFrame]  # of a forecast and horizons, or times
    left_out: str  # why there is no forecast of an outcome, with its name
    needs: str | None  # the option without which there is nothing to say


_CURVES = _Kind(
    table=lambda f, horizons: _with_bound(f, f.table(horizons)),
    left_out="the patient is not at risk of {!r} then",
    needs="horizons",
)
_CLASSES = _Kind(
    table=lambda f, _: _with_set(f, f.table()),
    left_out="the label of {!r} is known by then, or the patient is no longer observed",
    needs=None,
)
KINDS: Mapping[str, _Kind] = {
    "survival": _CURVES,
    "worsening": _CURVES,
    "recurrent": _CURVES,
    "states": _CURVES,
    "diagnosis": _CLASSES,
    "ordered": _CLASSES,
    "labels": _CLASSES,
    "progression": _Kind(
        table=lambda f, times: _values(f, times),
        left_out="the patient is no longer followed for {!r} then, or has no value to start from",
        needs="to",
    ),
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Risks, a row a patient, landmark, outcome, cause and horizon.

    Attributes
    ----------
    frame : polars.DataFrame
        id, landmark (days after the origin), outcome, cause (or class), horizon (days after the landmark;
        null of a diagnosis), risk, low, high (5 % and 95 % over the members; null with fewer than 5), split
        (train, test, null where unknown). Of survival event_free_at_least: the days that the patient stays
        event-free, a bound of level 0.9, see `Forecast.time_bound`; of a diagnosis class_set: the classes
        among which the true one is, joined by ``|``, see `DiagnosisForecast.class_set`; and promised: how
        often that is promised to hold. They are the same in each row of a landmark, and null where the
        forecast is not calibrated, as it never is of events that recur, states and labels. Of events that
        recur expected, expected_low and expected_high: how many there will be. Of several states a row for
        each as cause, and state: that at the landmark. Of a progression, beside them and else null: to (days
        after the landmark), code, quantile, value, and interval_low, interval_high: the calibrated interval
        at that time, see `ProgressionForecast.interval`.
    cohort : Cohort
    notes : tuple of str
        Sentences: what is unlike the training, and who was left out.
    """

    frame: pl.DataFrame
    cohort: Cohort
    notes: tuple[str, ...]

    def write(self, path: str | Path, meds: str | Path | None = None) -> None:
        """Write the table, and MEDS labels beside it; where these are refused, nothing is written.

        Parameters
        ----------
        path : str or Path
            .csv or .parquet. In a .csv, text that begins with = + - @ gets an apostrophe before it, so that
            no spreadsheet runs it.
        meds : str or Path, optional
            New folder for MEDS labels, as `write_meds_labels`.

        Raises
        ------
        InputError
            When the name is another one, the file cannot be written, or the cohort has no MEDS labels.
        """
        path = Path(path)
        refuse_suffix(path)
        with atomic_file(path) as part:
            if path.suffix == ".parquet":
                self.frame.write_parquet(part)
            else:
                disarmed(self.frame).write_csv(part)
            if meds is not None:
                write_meds_labels(self.frame, self.cohort, Path(meds))


def refuse_suffix(path: Path) -> None:
    """Refuse a file that is neither .csv nor .parquet by its name.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
    """
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: a table is written as .csv or .parquet")


def predict(
    model: FittedModel | Predictor | Run | str | Path,
    cohort: Cohort,
    *,
    at: Sequence[float | str] | None = None,
    horizons: Sequence[float] = (),
    to: Sequence[float] = (),
) -> Predictions:
    """Give the risk, or the value, of every patient of a cohort who is at risk at a landmark.

    Parameters
    ----------
    model : FittedModel, Predictor, Run, str or Path
        A run, or the model alone, which does not know its training patients.
    cohort : Cohort
    at : sequence of float or str, optional
        Landmarks: days after the origin, "entry", ISO dates. Needed
        by outcomes without prediction times of their own.
    horizons : sequence of float
        Days after the landmark; needed by survival outcomes.
    to : sequence of float
        Days after the landmark for which a value is wanted; needed by progressions. Where only one of both is
        given, outcomes that need the other are left out.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        When a landmark or a horizon is lacking, superfluous or beyond the reach of the model.
    """
    fitted = FittedModel.open(model)
    own_moments = [name for name in fitted.predictor.outcomes if _has_own_moments(cohort, name)]
    _refuse_choices(fitted, cohort, own_moments, at, horizons, to)
    forecasts, landmarks = _forecasts(fitted.predictor, cohort, own_moments, at)
    kinds = {name: KINDS[fitted.heads[name]["kind"]] for name in forecasts}
    given = {"horizons": horizons, "to": to, None: ()}
    without = [name for name in forecasts if kinds[name].needs and not given[kinds[name].needs]]
    forecasts = {name: f for name, f in forecasts.items() if name not in without}
    frame = pl.concat(
        (kinds[name].table(f, given[kinds[name].needs]) for name, f in forecasts.items()), how="diagonal"
    )
    frame = frame.rename({"at": "landmark"})
    sides = pl.Series(fitted.sides(cohort), dtype=pl.String)
    frame = frame.with_columns(split=sides[cohort.positions(frame["id"].to_numpy())])
    notes = list(dict.fromkeys(line for X in landmarks for line in fitted.notes(X)))
    notes += [f"outcome {name!r} left out; it needs --{kinds[name].needs}, as in 1y,3y" for name in without]
    for name, forecast in forecasts.items():
        if why := uncalibrated(forecast.calibration, LEVEL):
            notes.append(f"outcome {name!r}: {why}, so its calibrated columns are empty")
        if gone := int((~forecast.at_risk).sum()):
            why = kinds[name].left_out.format(name)
            notes.append(f"{gone} of {len(forecast)} landmarks left out: {why}")
    notes += unknown_notes(fitted.predictor.unknown(join_landmarks(*landmarks)))
    return Predictions(frame, cohort, tuple(notes))


def _values(forecast: ProgressionForecast, times: Sequence[float]) -> pl.DataFrame:
    """One row a landmark, time and quantile."""
    each = []
    for to in times:
        found = forecast.quantile(QUANTILES, to)
        landmark, quantile = (index.reshape(-1) for index in np.indices(found.shape))
        nothing = (np.full(len(forecast), np.nan),) * 2
        low, high = forecast.interval(LEVEL, to) if forecast.is_calibrated else nothing
        columns = {
            "id": forecast.ids.astype(str)[landmark],
            "at": np.asarray(forecast.at, np.float64)[landmark],
            "outcome": forecast.outcome,
            "to": float(to),
            "code": ", ".join(forecast.codes),
            "quantile": np.array(QUANTILES)[quantile],
            "value": found.reshape(-1),
            "interval_low": low[landmark],
            "interval_high": high[landmark],
            "promised": _promised(forecast, np.isfinite(low))[landmark],
        }
        each.append(pl.DataFrame(columns).filter(forecast.at_risk[landmark]))
    return pl.concat(each).with_columns(pl.col("interval_low", "interval_high", "promised").fill_nan(None))


def _with_bound(forecast: Forecast, table: pl.DataFrame) -> pl.DataFrame:
    """The table with the calibrated bound on the event-free time of each landmark."""
    bound = forecast.time_bound(LEVEL)
    return _with(forecast, table, pl.Series("event_free_at_least", bound), np.isfinite(bound))


def _with_set(forecast: DiagnosisForecast, table: pl.DataFrame) -> pl.DataFrame:
    """The table with the calibrated set of classes of each landmark."""
    here = forecast.at_risk & forecast.is_calibrated
    names = np.array(forecast.classes)
    sets = [
        "|".join(names[inside]) if there else None
        for inside, there in zip(forecast.class_set(LEVEL), here, strict=True)
    ]
    return _with(forecast, table, pl.Series("class_set", sets, dtype=pl.String), here)


def _with(
    forecast: Forecast | DiagnosisForecast, table: pl.DataFrame, answer: pl.Series, there: np.ndarray
) -> pl.DataFrame:
    """The table with a calibrated answer of each landmark, and how often it is promised to hold."""
    columns = {"id": forecast.ids.astype(str), "at": np.asarray(forecast.at, np.float64)}
    each = pl.DataFrame(columns | {answer.name: answer, "promised": _promised(forecast, there)})
    each = each.with_columns(pl.selectors.float().fill_nan(None)).unique(["id", "at"], keep="first")
    return table.join(each, on=["id", "at"], how="left", maintain_order="left")


def _promised(forecast: Answer, there: np.ndarray) -> np.ndarray:
    """How often a calibrated answer is promised to hold; nan where there is none: (landmark,)."""
    known = forecast.calibration
    return np.where(there, np.nan if known is None else known.promise(LEVEL), np.nan)


def _has_own_moments(cohort: Cohort, outcome: str) -> bool:
    """Whether the cohort has the outcome, and it has prediction times of its own."""
    return outcome in cohort.outcomes and cohort.outcomes[outcome].has_own_moments


def _seen_later(cohort: Cohort) -> bool:
    """Whether anything becomes known after a patient's entry, so that later landmarks see more."""
    every = (cohort.events[kind] for kind in cohort.spec.nodes)
    return any(bool((rows.known > np.repeat(cohort.entry, np.diff(rows.ptr))).any()) for rows in every)


def _refuse_choices(
    fitted: FittedModel,
    cohort: Cohort,
    own_moments: Sequence[str],
    at: Sequence[float | str] | None,
    horizons: Sequence[float],
    to: Sequence[float],
) -> None:
    """Refuse landmarks and horizons that these outcomes lack, or do not have."""
    names = fitted.predictor.outcomes
    on_days = [name for name in names if name not in own_moments]
    needs = {name: KINDS[fitted.heads[name]["kind"]].needs for name in (*own_moments, *on_days)}
    curves = [name for name, option in needs.items() if option == "horizons" and not to]
    values = [name for name, option in needs.items() if option == "to" and not horizons]
    for option, times in (("horizons", horizons), ("to", to)):
        if times and option not in needs.values():
            raise InputError(
                f"--{option}: no outcome of this model takes it ({', '.join(names)}); leave it out"
            )
    if on_days and at is None:
        where = "--at, as in entry,1y,3y" if _seen_later(cohort) else "--at entry (nothing is seen later)"
        if values and not curves and not to:
            raise InputError(f"outcome {values[0]!r} needs landmarks, and --to; give {where}, and --to 1y")
        if curves and not horizons:
            raise InputError(
                f"outcome {curves[0]!r} needs landmarks, and horizons after them; give {where}, and "
                "--horizons 1y,3y,5y"
            )
        raise InputError(f"outcome {on_days[0]!r} needs landmarks; give {where}")
    if not on_days and at is not None:
        raise InputError(f"outcome {own_moments[0]!r} has prediction times of its own; leave out --at")
    if to and min(to) <= 0:
        raise InputError(f"to {min(to):g} days; must be > 0")
    if values and not curves and not to:
        raise InputError(f"outcome {values[0]!r} needs the time a value is wanted for; give --to, as in 1y")
    if horizons and min(horizons) <= 0:
        raise InputError(f"horizon {min(horizons):g} days; must be > 0")
    if curves and not horizons:
        raise InputError(f"outcome {curves[0]!r} needs horizons; give --horizons, as in 1y,3y,5y")


def _forecasts(
    predictor: Predictor, cohort: Cohort, own_moments: Sequence[str], at: Sequence[float | str] | None
) -> tuple[dict[str, Answer], list[Landmarks]]:
    """The forecasts of each outcome where it can be asked, and at which landmarks anybody was at risk."""
    forecasts: dict[str, Answer] = {}
    landmarks = []
    for name in own_moments:
        landmarks.append(cohort.moments(name))
        forecasts[name] = predictor.forecast(landmarks[-1])[name]
    if on_days := [name for name in predictor.outcomes if name not in own_moments]:
        X = cohort.landmarks(times=at)
        everything = predictor.forecast(X)
        forecasts |= {name: everything[name] for name in on_days}
        landmarks.append(X[np.logical_or.reduce([everything[name].at_risk for name in on_days])])
    return forecasts, landmarks


def write_meds_labels(frame: pl.DataFrame, cohort: Cohort, folder: Path) -> None:
    """Write risks as MEDS 0.4 labels: subject_id, prediction_time, float_value.

    A file a cause and horizon, OUTCOME/CAUSE/DAYSd.parquet; of a diagnosis OUTCOME/CLASS/label.parquet.

    Parameters
    ----------
    frame : polars.DataFrame
        As `Predictions.frame`.
    cohort : Cohort
        Whose patients these are; it needs a calendar, and whole numbers as ids.
    folder : Path
        A new folder.

    Raises
    ------
    InputError
        When the cohort has no dates or other ids, two names make the same file name, or there are values
        alone.
    """
    labels = _meds_labels(frame, cohort, folder)
    taken = set[str]()  # some file systems ignore case
    with atomic_folder(folder) as part:
        for (outcome, cause, horizon), table in labels.group_by("outcome", "cause", "horizon"):
            name = "label.parquet" if horizon is None else f"{horizon:g}d.parquet"
            file = inside(part, file_name(str(outcome)), file_name(str(cause)), name)
            file.parent.mkdir(parents=True, exist_ok=True)
            table = table.select("subject_id", "prediction_time", "float_value")
            if (key := str(file).casefold()) in taken:
                raise InputError(
                    f"{folder}: {cause!r} of {outcome!r} and another one make the same file name"
                )
            taken.add(key)
            table.sort("subject_id", "prediction_time").write_parquet(file)


def _meds_labels(frame: pl.DataFrame, cohort: Cohort, folder: Path) -> pl.DataFrame:
    """The rows with MEDS names and types, beside outcome, cause and horizon."""
    if cohort.origin is None:
        raise InputError(
            f"{folder}: MEDS labels need dates, and the cohort's times are offsets; --out has the risks"
        )
    risks = frame.filter(pl.col("risk").is_not_null()) if "risk" in frame.columns else frame.clear()
    if len(frame) and not len(risks):
        raise InputError(f"{folder}: MEDS labels are of risks, and a value has none; leave out --meds")
    frame, ids = risks, pl.Series(cohort.ids.astype(str))
    integer = (ids.cast(pl.Int64, strict=False).cast(pl.String) == ids).fill_null(False)  # 01 is not 1
    if not integer.all():
        raise InputError(f"{folder}: MEDS needs integers as ids; {int((~integer).sum())} here are not")
    start = np.asarray(cohort.origin)[cohort.positions(frame["id"].to_numpy())]
    microseconds = (frame["landmark"] * DAY * 1_000_000).round().cast(pl.Int64)
    moment = pl.Series(start * 1_000_000) + microseconds
    return frame.select(
        "outcome",
        "cause",
        "horizon",
        pl.col("id").cast(pl.Int64).alias("subject_id"),
        moment.cast(pl.Datetime("us")).alias("prediction_time"),
        pl.col("risk").cast(pl.Float32).alias("float_value"),
    )
