"""Figures of an evaluation: calibration, AUC by horizon, decision curves, one landmark and horizon each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.prognosis.plot import GRID, INK, LANDMARK_COLORS, MUTED, SMALL, STYLE, apart, time_unit
from gnnpatient.show import printable
from gnnpatient.study import curves
from gnnpatient.study.curves import TREAT_ALL, TREAT_NONE, Place
from gnnpatient.times import duration

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

SIZE = (7.2, 4.6)  # inches, of a figure of its own
BARS = 40  # of the risks below a calibration curve


def plot(kind: str, place: Place, models: Sequence[str], when: str, ax: Axes | None) -> Axes:
    """Draw one figure of an evaluation, see `Evaluation.plot`.

    Parameters
    ----------
    kind : {"calibration", "auc", "decision"}
    place : Place
        What is drawn.
    models : sequence of str
    when : str
        The landmark in words, behind a comma; "" of a task with moments of its own.
    ax : matplotlib.axes.Axes or None
        Where to draw; None: in a new figure, with the numbers of patients below.

    Returns
    -------
    matplotlib.axes.Axes
    """
    colors = dict(zip(models, LANDMARK_COLORS, strict=False))
    if len(colors) < len(models):
        raise InputError(
            f"plot: {len(models)} models, more than {len(LANDMARK_COLORS)}; name some by models="
        )
    draw = {"calibration": _calibration, "auc": _auc, "decision": _decision}[kind]
    with _figure(ax, len(models) if kind == "decision" else 1) as (axes, below):
        what = draw(axes, below, place, colors)
        axes.set_title(printable(f"{what}: {place.cause}{when}", 70), weight="bold")
    return axes


@contextmanager
def _figure(ax: Axes | None, lines: int) -> Iterator[tuple[Axes, Axes | None]]:
    """Axes in the style of the package; in a new figure a second one below, for so many lines of counts."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        if ax is not None:
            yield ax, None
            return
        from matplotlib import pyplot
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        ratios = [SIZE[1] - 0.35 - 0.22 * lines, 0.22 * lines]
        _, (axes, below) = pyplot.subplots(
            2,
            1,
            figsize=SIZE,
            facecolor="white",
            layout=ConstrainedLayoutEngine(hspace=0.02, h_pad=0.06),
            sharex=True,
            gridspec_kw={"height_ratios": ratios},
        )
        yield axes, below


def _dress(axes: Axes) -> None:
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=SMALL, labelbottom=True)
    axes.tick_params(axis="x", pad=7)  # the two zeros of a corner stay apart
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _percent(axis: Any, high: float) -> None:
    """Ticks in percent from 0 on, four to eight of them, at round numbers."""
    steps = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((one for one in steps if high / one <= 8), 0.25)
    ticks = np.arange(int(high / step + 1e-9) + 1) * step
    axis.set_ticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks])


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """The name of each curve right of the axes, where it ends."""
    low, high = axes.get_ylim()
    heights = apart([float(np.clip(end[0], low, high)) for end in ends], 0.065 * (high - low))
    right = axes.get_xlim()[1]
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.annotate(
            printable(text, 24),
            (right, height),
            (6, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )


def _counts(below: Axes, label: str, lines: Sequence[tuple[str, str, np.ndarray, Sequence[int]]]) -> None:
    """Numbers of patients below the ticks: name, colour, where, and how many, a line each."""
    below.set_ylim(len(lines) - 0.5, -0.5)
    names = [printable(name, 14) for name, *_ in lines]
    below.set_yticks(range(len(lines)), names)
    for tick, (_, color, *_) in zip(below.get_yticklabels(), lines, strict=True):
        tick.set_color(color)
    for i, (_, color, where, counts) in enumerate(lines):
        for x, count in zip(where, counts, strict=True):
            below.text(x, i, f"{count}", ha="center", va="center", color=color, size=SMALL)
    below.tick_params(length=0, labelsize=SMALL, labelbottom=False)
    below.spines[:].set_visible(False)
    below.set_title(label, color=MUTED, size=SMALL, pad=2)


def _rows(frame: pl.DataFrame, model: str) -> dict[str, np.ndarray]:
    part = frame.filter(frame["model"] == model)
    return {name: part[name].to_numpy() for name in part.columns}


def _until(place: Place) -> str:
    return "" if place.horizon is None else f" within {duration(place.horizon)}"


def _calibration(axes: Axes, below: Axes | None, place: Place, colors: dict[str, str]) -> str:
    """Observed share by forecast risk; how the risks are spread lies below."""
    found, ends, top = curves.calibration(place, list(colors)), list[tuple[float, str, str]](), place.reach
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (5, 2)))
    for model, color in colors.items():
        curve = _rows(found, model)
        if np.isfinite(curve["share"]).any():
            axes.plot(curve["risk"], curve["share"], color=color, lw=2)
            top = max(top, float(curve["share"].max()))
            ends.append((float(curve["share"][-1]), model, color))
    end = min(1.0, 1.04 * max(top, max(float(np.nanmax(found["risk"].to_numpy())), 0.05)))
    axes.set(xlim=(0, end), ylim=(0, end))
    _dress(axes)
    _percent(axes.xaxis, end)
    _percent(axes.yaxis, end)
    axes.set_ylabel(f"observed{_until(place)}", size=SMALL)
    axes.set_xlabel("forecast risk; dashed: the two are equal", size=SMALL)
    _name_ends(axes, ends)
    if below is not None:
        model, color = next(iter(colors.items()))
        count, edges = np.histogram(place.risk(model).clip(0, end), BARS, (0, end))
        below.bar(edges[:-1], count, np.diff(edges), align="edge", color=color, alpha=0.45, lw=0)
        below.set_yticks([])
        below.tick_params(length=0, labelbottom=False)
        below.spines[:].set_visible(False)
        patients = len(np.unique(place.board.models.landmarks.patient[place.rows]))
        below.set_title(f"{patients} patients by the risk of {model}", color=MUTED, size=SMALL, pad=2)
    return "Calibration"


def _auc(axes: Axes, below: Axes | None, place: Place, colors: dict[str, str]) -> str:
    """AUC by horizon with 95 % bands; who is still followed is below."""
    found, ends = curves.auc_by_horizon(place, list(colors)), list[tuple[float, str, str]]()
    assert place.horizon is not None
    width, unit = time_unit(place.horizon)
    axes.axhline(0.5, color=MUTED, lw=1.2, ls=(0, (5, 2)))
    lowest = 0.5
    for model, color in colors.items():
        curve = _rows(found, model)
        if not len(curve["value"]):
            continue
        low, high = (np.array(curve[side], float) for side in ("low", "high"))
        axes.fill_between(curve["horizon"] / width, low, high, color=color, alpha=0.13, lw=0)
        axes.plot(curve["horizon"] / width, curve["value"], color=color, lw=2)
        ends.append((float(curve["value"][-1]), model, color))
        lowest = min(lowest, float(np.nanmin(np.append(low, 0.5))))
    axes.set(xlim=(0, place.horizon / width), ylim=(max(0.0, np.floor(lowest * 10) / 10), 1.0))
    _dress(axes)
    axes.set_ylabel("AUC", size=SMALL)
    axes.set_xlabel(f"{unit} after the landmark; bands: 95 % over {place.board.units[1]}", size=SMALL)
    _name_ends(axes, [*ends, (0.5, "chance", MUTED)])
    if below is not None:
        time = place.board.observed.time
        assert time is not None
        ticks = np.array([t for t in axes.get_xticks() if 0 <= t <= place.horizon / width * (1 + 1e-9)])
        patient = place.board.models.landmarks.patient[place.rows]
        at_risk = [len(np.unique(patient[time[place.rows] > t * width])) for t in ticks]
        _counts(below, "patients still followed", [("", INK, ticks, at_risk)])
    return "AUC by horizon"


def _decision(axes: Axes, below: Axes | None, place: Place, colors: dict[str, str]) -> str:
    """Net benefit by threshold; how many patients are above it is below."""
    found, ends = curves.decision(place, list(colors)), list[tuple[float, str, str]]()
    top = max(0.01, float(np.nanmax(found["net_benefit"].to_numpy())))
    lines = {TREAT_ALL: MUTED, TREAT_NONE: INK, **colors}
    axes.set(xlim=(0, place.reach), ylim=(-0.25 * top, 1.08 * top))
    for model, color in lines.items():
        curve = _rows(found, model)
        is_model = model in colors
        style = {"lw": 2} if is_model else {"lw": 1.3, "ls": (0, (5, 2)) if model == TREAT_ALL else "-"}
        axes.plot(curve["threshold"], curve["net_benefit"], color=color, clip_on=True, **style)
        if model == TREAT_ALL and curve["net_benefit"][-1] < -0.25 * top:
            last = int(np.flatnonzero(curve["net_benefit"] >= -0.2 * top)[-1])
            spot = (curve["threshold"][last], curve["net_benefit"][last])
            axes.annotate(model, spot, (5, 0), textcoords="offset points", color=color, va="center")
        else:
            ends.append((float(curve["net_benefit"][-1]), model, color))
    _dress(axes)
    _percent(axes.xaxis, place.reach)
    axes.set_ylabel("net benefit, cases per patient", size=SMALL)
    axes.set_xlabel(f"treat from this risk on: {place.cause}{_until(place)}", size=SMALL)
    _name_ends(axes, ends)
    if below is not None:
        ticks = np.array([t for t in axes.get_xticks() if 0 < t <= place.reach * (1 + 1e-9)])
        patient = place.board.models.landmarks.patient[place.rows]
        counts = []
        for model, color in colors.items():
            risk = place.risk(model)
            above = [len(np.unique(patient[risk >= t])) for t in ticks]
            counts.append((model, color, ticks, above))
        _counts(below, f"patients at or above it, of {len(np.unique(patient))}", counts)
    return "Decision curve"
