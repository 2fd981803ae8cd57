"""Forecasts drawn, and the style that every figure of the package has: colours, letters, axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.errors import InputError, InputTypeError
from gnnpatient.prognosis.conformal import LEVEL
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.prognosis.rows import MIN_MEMBERS
from gnnpatient.prognosis.values import QUANTILES, ProgressionForecast
from gnnpatient.show import printable
from gnnpatient.times import YEAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, NOW = "#1f2733", "#667282", "#e3e7ec", "#1b5fa8"  # colours
CAUSE_COLORS = ("#c4471b", "#2f6fbb", "#8a4fb0", "#b9860b")
LANDMARK_COLORS = ("#2f6fbb", "#c4471b", "#1f8a5b", "#8a4fb0", "#b9860b", "#7b8794")
SMALL = 8.5  # points of the smallest letters, 12 px at 100 dpi
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,  # 13 px at 100 dpi
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "text.parse_math": False,  # a $ in a code is a $
}
MAX_LANDMARKS = 6  # in one plot
POINTS = 121  # of a curve and its band
TOPS = {0.05: 5, 0.1: 5, 0.2: 4, 0.3: 3, 0.5: 5, 1.0: 5}  # where the axis of risks may end: its steps


def plot_curves(forecast: Forecast, cause: str | None, ax: Axes | None, event_free: bool) -> Axes:
    """Draw cumulative incidence, see `Forecast.plot`.

    Parameters
    ----------
    forecast : Forecast
    cause : str or None
        The only cause that is drawn; None: all.
    ax : matplotlib.axes.Axes or None
        Where to draw; None: in a new figure.
    event_free : bool
        Whether the probability of none of the causes is drawn too.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _check(forecast, cause, ax)
    names = forecast.causes if cause is None else (cause,)
    lines = [(0, name) for name in names] if len(forecast) == 1 else _one_cause(forecast, names)
    with _style(ax, (7.2, 4.2)) as (axes, own):
        width, unit = time_unit(float(forecast.times[-1]))
        grid = np.linspace(0, float(forecast.times[-1]), POINTS)
        ends, top = list[tuple[float, str, str]](), 0.0
        for (row, name), color in zip(lines, _colors(forecast, names, len(lines)), strict=True):
            if not forecast.at_risk[row]:
                continue
            curve, spread = forecast.risks(grid, name)[row], forecast.spreads(grid, name)
            if spread is not None and forecast.is_calibrated:  # never alone
                low, high = spread[0][row], spread[1][row]
                axes.fill_between(grid / width, low, high, color=color, alpha=0.15, lw=0)
                top = max(top, float(high.max()))
            label = name if len(forecast) == 1 else _landmark_name(forecast, row)
            axes.plot(grid / width, curve, color=color, lw=2, label=printable(label, 28))
            ends.append((float(curve[-1]), label, INK if _is_ramp(forecast) else color))
            top = max(top, float(curve.max()))
        if event_free and ends:
            ends += _draw_event_free(axes, forecast, width, [color for _, _, color in ends])
            top = 1.0
        bounds = forecast.time_bound() / width
        for row, color in enumerate([INK] if len(forecast) == 1 else _colors(forecast, names, len(lines))):
            if forecast.at_risk[row] and np.isfinite(bounds[row]):
                axes.plot(bounds[row], 0, "^", color=color, ms=6, clip_on=False, label="_bound", zorder=5)
        axes.set_title(_title(forecast, names), weight="bold")
        axes.set_xlim(0, float(forecast.times[-1]) / width)
        axes.set_xlabel(_below(forecast, f"{unit} after the landmark", own), size=SMALL)
        _risk_axis(axes, top)
        if not ends:
            text = "no longer at risk on this day: no curve"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED)
        elif own:
            _name_ends(axes, ends, float(forecast.times[-1]) / width)
        else:
            axes.legend(frameon=False, loc="upper left")
    return axes


def plot_bars(forecast: DiagnosisForecast, cause: str | None, ax: Axes | None) -> Axes:
    """Draw probabilities of classes, see `DiagnosisForecast.plot`.

    Parameters
    ----------
    forecast : DiagnosisForecast
    cause : str or None
        The only class that is drawn; None: all, or of several landmarks the last of two.
    ax : matplotlib.axes.Axes or None
        Where to draw; None: in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _check(forecast, cause, ax)
    alone = len(forecast) == 1
    names = (cause,) if cause is not None else forecast.classes if alone else forecast.classes[-1:]
    if not alone and cause is None and (len(forecast.classes) > 2 or forecast.kind == "labels"):
        raise InputError(
            f"plot: {len(forecast)} landmarks of {len(forecast.classes)} "
            f"{'labels' if forecast.kind == 'labels' else 'classes'}; name one of "
            f"{', '.join(forecast.classes)}, as in cause={forecast.classes[-1]!r}"
        )
    bars = [(0, name) for name in names] if alone else [(row, names[0]) for row in range(len(forecast))]
    with _style(ax, (7.2, 1.1 + 0.42 * len(bars))) as (axes, own):
        for i, (row, name) in enumerate(bars):
            if not np.isfinite(forecast.risk(name)[row]):
                axes.text(0.01, i, "not at risk, or known already", va="center", color=MUTED, size=SMALL)
                continue
            risk, spread = float(forecast.risk(name)[row]), forecast.spread(name)
            axes.barh(i, risk, height=0.55, color=CAUSE_COLORS[1], alpha=0.85)
            end = risk
            if spread is not None and forecast.is_calibrated:
                low, high = float(spread[0][row]), float(spread[1][row])
                axes.plot([low, high], [i, i], color=INK, lw=1.3, solid_capstyle="butt")
                end = max(risk, high)
            axes.text(end + 0.012, i, f"{risk * 100:.0f} %", va="center", weight="bold")
        labels = [name if alone else _landmark_name(forecast, row) for row, name in bars]
        axes.set_yticks(range(len(bars)), [printable(label, 28) for label in labels], color=INK)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, 1.06)
        axes.set_xticks(np.linspace(0, 1, 6), [f"{p} %" for p in range(0, 101, 20)])
        axes.tick_params(length=0)
        axes.grid(axis="x", color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.set_title(_title(forecast, names), weight="bold")
        axes.set_xlabel(_below(forecast, "probability", own, "line"), size=SMALL)
    return axes


def plot_values(forecast: ProgressionForecast, ax: Axes | None) -> Axes:
    """Draw the distribution of a value, see `ProgressionForecast.plot`.

    Parameters
    ----------
    forecast : ProgressionForecast
    ax : matplotlib.axes.Axes or None
        Where to draw; None: in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _check(forecast, None, ax)
    with _style(ax, (7.2, 4.2)) as (axes, own):
        end = float(forecast.times[-1])
        width, unit = time_unit(end)
        grid = np.linspace(forecast.times[0], end, POINTS)
        values = np.stack(
            [forecast.quantile(QUANTILES, time) for time in grid], 2
        )  # (landmark, quantile, time)
        ends, size = list[tuple[float, str, str]](), len(forecast)
        for row, color in enumerate(_colors(forecast, forecast.names, size)):
            if not forecast.at_risk[row]:
                continue
            wide_low, low, median, high, wide_high = values[row]
            if size == 1:
                axes.fill_between(grid / width, wide_low, wide_high, color=color, alpha=0.12, lw=0)
            axes.fill_between(grid / width, low, high, color=color, alpha=0.15, lw=0)
            label = forecast.outcome if size == 1 else _landmark_name(forecast, row)
            axes.plot(grid / width, median, color=color, lw=2, label=printable(label, 28))
            if forecast.target == "value" and np.isfinite(forecast.last[row]):
                axes.plot(0, forecast.last[row], "o", color=color, ms=5, clip_on=False)
            ends.append((float(median[-1]), label, color))
        axes.set_title(_title(forecast, forecast.names), weight="bold")
        axes.set_xlim(0, end / width)
        bands = "bands: the middle 50 % and 90 %" if size == 1 else "band: the middle 50 %"
        label = f"{unit} after the landmark"
        by = "calibrated on patients held out" if forecast.is_calibrated else "by the model, not calibrated"
        said = f"{label}\n{bands}, if seen and alive then; {by}"
        axes.set_xlabel(said if own else label, size=SMALL)
        if forecast.unit:
            axes.set_ylabel(printable(forecast.unit, 28), size=SMALL)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=MUTED, labelsize=SMALL)
        if not ends:
            text = "no longer followed on this day: no forecast"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED)
        elif size > 1:
            axes.legend(frameon=False, loc="upper left")
    return axes


def time_unit(days: float) -> tuple[float, str]:
    """The unit of an axis that ends after some days.

    Parameters
    ----------
    days : float

    Returns
    -------
    tuple of (float, str)
        Days in the unit, and its name.

    Examples
    --------
    >>> time_unit(1826.0), time_unit(30.0), time_unit(1.5)
    ((365.25, 'years'), (1.0, 'days'), (0.041666666666666664, 'hours'))
    """
    if days > 2 * YEAR:
        return YEAR, "years"
    return (1.0, "days") if days > 3 else (1 / 24, "hours")


def apart(heights: list[float], gap: float) -> list[float]:
    """Heights moved up as little as keeps labels from touching.

    Parameters
    ----------
    heights : list of float
    gap : float
        Between two labels, at least.

    Returns
    -------
    list of float

    Examples
    --------
    >>> apart([0.5, 0.0, 0.51], 0.1)
    [0.5, 0.0, 0.6]
    """
    order, out = np.argsort(heights), list(heights)
    for below, above in pairwise(order):
        out[above] = max(out[above], out[below] + gap)
    return out


def _check(forecast: Answer, cause: str | None, ax: object) -> None:
    if ax is not None and not hasattr(ax, "fill_between"):
        raise InputTypeError(
            f"plot: ax is a {type(ax).__name__}; give the Axes of matplotlib, or leave it out"
        )
    if cause is not None and not isinstance(forecast, ProgressionForecast):
        forecast.slot(cause)  # refuses one that is unknown
    if not len(forecast):
        raise InputError("plot: no landmark; forecast one, as in model.forecast(cohort.at(365, patient=ID))")
    if len(forecast) > MAX_LANDMARKS:
        raise InputError(
            f"plot: {len(forecast)} landmarks, more than {MAX_LANDMARKS}; take some, as in "
            f"forecast[:{MAX_LANDMARKS}].plot(), or all of them as a table with .to_frame()"
        )


def _one_cause(forecast: Forecast, names: Sequence[str]) -> list[tuple[int, str]]:
    """The curves of several landmarks: row and cause of each."""
    if len(names) > 1:
        raise InputError(
            f"plot: {len(forecast)} landmarks of {len(names)} causes; name one of {', '.join(names)}, as in "
            f"cause={names[-1]!r}, or take one landmark, as in forecast[0].plot()"
        )
    return [(row, names[0]) for row in range(len(forecast))]


@contextmanager
def _style(ax: Axes | None, size: tuple[float, float]) -> Iterator[tuple[Axes, bool]]:
    """Axes in the style of the package, and whether their figure is new."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        if ax is not None:
            yield ax, False
            return
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=size, facecolor="white", layout="constrained")
        yield axes, True


def _colors(forecast: Forecast | ProgressionForecast, names: Sequence[str], size: int) -> list[str]:
    """Of each curve: by cause, by patient, or one colour growing darker from day to day."""
    if _is_ramp(forecast):
        dark = CAUSE_COLORS[forecast.names.index(names[0]) % len(CAUSE_COLORS)]
        rank = np.argsort(np.argsort(forecast.at, kind="stable"))
        return [_mixed(dark, 0.4 + 0.6 * float(r) / (size - 1)) for r in rank]  # day by day darker
    palette: Sequence[str] = LANDMARK_COLORS
    if len(forecast) == 1:
        palette = [CAUSE_COLORS[forecast.names.index(name) % len(CAUSE_COLORS)] for name in names]
    return [palette[i % len(palette)] for i in range(size)]


def _is_ramp(forecast: Answer) -> bool:
    """Whether several landmarks are of one patient, so that their order is what matters."""
    return len(forecast) > 1 and len(set(forecast.ids.tolist())) == 1


def _mixed(color: str, share: float) -> str:
    """A colour mixed with white."""
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def _draw_event_free(
    axes: Axes, forecast: Forecast, width: float, colors: Sequence[str]
) -> list[tuple[float, str, str]]:
    """A dashed line for each landmark at risk; what to write at the ends."""
    rows, times = np.flatnonzero(forecast.at_risk), np.append(0, forecast.times) / width
    tones = [MUTED] if len(forecast) == 1 else colors
    for i, (row, tone) in enumerate(zip(rows, tones, strict=True)):
        free, label = np.append(1, forecast.event_free[row]), "_" if i else "event-free"
        axes.plot(times, free, color=tone, lw=1.3, ls=(0, (5, 2)), label=label)
    return [(float(forecast.event_free[rows[0], -1]), "event-free", tones[0])]


def _landmark_name(forecast: Answer, row: int) -> str:
    """What tells a landmark from the others of a plot: its day, its patient, or both."""
    day, name = _day(forecast.at[row]), f"patient {forecast.ids[row]}"
    if len(set(forecast.ids.tolist())) == 1:
        return day
    return name if len(set(forecast.at.tolist())) == 1 else f"{name}, {day}"


def _day(at: float) -> str:
    return f"day {at:.0f}" if abs(at) >= 100 else f"day {at:.3g}"


def _title(forecast: Answer, names: Sequence[str]) -> str:
    """What is drawn, and the day where all landmarks share it."""
    word = "Cumulative incidence" if isinstance(forecast, Forecast) else f"Probability of {forecast.outcome}"
    of = f" of {names[0]}" if isinstance(forecast, Forecast) and len(names) == 1 else ""
    of = f": {names[0]}" if isinstance(forecast, DiagnosisForecast) and len(names) == 1 else of
    if isinstance(forecast, ProgressionForecast):
        word, of = f"{'Value' if forecast.target == 'value' else 'Change'} of {forecast.outcome}", ""
    days = set(forecast.at.tolist())
    return printable(word + of, 48) + (f", as known on {_day(days.pop())}" if len(days) == 1 else "")


def _below(forecast: Forecast | DiagnosisForecast, label: str, own: bool, mark: str = "band") -> str:
    """The label of the axis, and below it what a band and a mark are; short in the axes of others."""
    if not forecast.is_calibrated:
        return f"{label}\n{forecast.statement()}" if own and forecast.at_risk.any() else label
    has_band = forecast.members is not None and len(forecast.members) >= MIN_MEMBERS
    curves = isinstance(forecast, Forecast)
    if not own:
        parts = [f"{mark}: model spread"] * has_band + ["mark: event-free so long with 0.9"] * curves
        return "; ".join([label, *parts])
    lines = [label]
    if has_band:
        size = len(forecast.members) if forecast.members is not None else 0
        lines.append(f"{mark}: model spread, 5 % to 95 % of {size} members, not what may happen")
    if len(forecast) == 1:
        lines.append(("mark: " if curves else "") + forecast.statement())
    elif curves:
        assert forecast.calibration is not None
        lines.append(f"mark: event-free so long {forecast.calibration.chance(LEVEL)}")
    return "\n".join(lines)


def _risk_axis(axes: Axes, top: float) -> None:
    """From 0 to the end of a scale in percent that has room for the highest curve."""
    end = next((one for one in TOPS if top <= 0.92 * one), 1.0)
    axes.set_ylim(0, end)
    ticks = np.linspace(0, end, TOPS[end] + 1)
    axes.set_yticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks])
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], x: float) -> None:
    """The name of each curve at its end, right of the axes."""
    gap = 0.055 * axes.get_ylim()[1]
    for height, (_, text, color) in zip(apart([end[0] for end in ends], gap), ends, strict=True):
        axes.text(x * 1.012, height, printable(text, 24), color=color, va="center", clip_on=False)
