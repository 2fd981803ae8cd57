"""One patient as of one day, in one figure: what is known, what is expected from here, how sure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.splits import default_horizons
from gnnpatient.cohort.view import static_texts
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.prognosis.plot import CAUSE_COLORS, GRID, INK, MUTED, NOW, STYLE, apart
from gnnpatient.times import DAY, YEAR, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOOTER = "Research use only. Not a medical device."
NODE_COLORS = ("#7b8794", "#1f8a5b", "#8a4fb0", "#b9860b", "#c4471b", "#2f6fbb")
MAX_PANELS = 8  # codes with a panel of their own


def draw(landmark: Landmarks, forecast: Forecast, path: str | Path) -> Path:
    """Draw one patient at one landmark, and the forecast. Nothing after the landmark is read.

    The shaded band of a panel is the middle half of the other patients' values, which keeps its axis in place
    from day to day.

    Parameters
    ----------
    landmark : Landmarks
        One patient at one moment.
    forecast : Forecast
        Of a survival outcome at that landmark.
    path : str or Path
        A .png, .svg or .pdf.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When there are several landmarks, or the file is of another type.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(landmark) != 1:
        raise InputError(f"{len(landmark)} landmarks; a figure shows one patient at one landmark")
    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path}: a figure is saved as .png, .svg or .pdf")
    visible = _VisibleRows(landmark)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(14.4, 8.6), facecolor="white")
        FigureCanvasAgg(figure)
        _header(figure, visible)
        _draw_past(figure, visible)
        _draw_forecast(figure, forecast)
        _footer(figure, forecast)
        with atomic_file(path) as part:
            figure.savefig(part, dpi=100, metadata={"Software": None} if path.suffix == ".png" else None)
    return path


def _draw_past(figure: Figure, visible: _VisibleRows) -> None:
    """The left half: a timeline of all rows, and a panel for each of the commonest codes."""
    series = visible.series()
    lines = max(1, math.ceil(len(series) / 2))
    grid = figure.add_gridspec(
        1 + lines,
        2,
        left=0.075,
        right=0.545,
        top=0.855,
        bottom=0.105,
        hspace=0.62,
        wspace=0.2,
        height_ratios=[0.55 + 0.2 * len(visible.kinds), *[1] * lines],
    )
    _timeline(figure.add_subplot(grid[0, :]), visible)
    for i, (kind, code) in enumerate(series):
        is_last = i >= len(series) - 2
        _panel(figure.add_subplot(grid[1 + i // 2, i % 2]), visible, kind, code, last=is_last)


def _draw_forecast(figure: Figure, forecast: Forecast) -> None:
    """The right half: curves, and the same as numbers."""
    grid = figure.add_gridspec(
        2, 1, left=0.615, right=0.93, top=0.855, bottom=0.105, hspace=0.26, height_ratios=[3.2, 1]
    )
    _curves(figure.add_subplot(grid[0]), forecast)
    _numbers(figure.add_subplot(grid[1]), forecast)


def _footer(figure: Figure, forecast: Forecast) -> None:
    figure.text(0.03, 0.022, FOOTER, color=INK, weight="bold")
    spread = ""
    if forecast.spread(0.0, forecast.causes[0]) and forecast.is_calibrated:
        spread = "  Bands and small figures: model spread, 5 % to 95 % of the members, not what may happen."
    shaded = "Shaded: the middle half of the other patients' values."
    figure.text(0.30, 0.022, f"{shaded}{spread}", color=MUTED, size=8.5)
    if forecast.at_risk[0]:
        said = forecast.statement()
        figure.text(0.615, 0.058, f"{said[0].upper()}{said[1:]}.", color=INK, size=8.5)


class _VisibleRows:
    """The rows of one patient that are known at one landmark."""

    def __init__(self, landmark: Landmarks) -> None:
        self.landmark, self.cohort = landmark, landmark.cohort
        self.at, self.position = float(landmark.days[0]), int(landmark.patient[0])
        self.kinds = tuple(self.cohort.spec.nodes)
        self.rows = {
            kind: slice(int(e.ptr[self.position]), int(e.visible_end(landmark.patient, landmark.at)[0]))
            for kind, e in self.cohort.events.items()
        }
        self.start = min([0.0, *(self.days(kind).min(initial=0.0) for kind in self.rows)])

    def days(self, kind: str) -> np.ndarray:
        """When the visible rows happened, in days."""
        return self.cohort.events[kind].happened[self.rows[kind]] / DAY

    @property
    def unit(self) -> tuple[float, str]:
        """Days in a unit of the time axis, and its name."""
        return (YEAR, "years") if self.at - self.start > 2 * YEAR else (1.0, "days")

    def statics(self) -> str:
        return ",  ".join(static_texts(self.landmark))

    def series(self) -> list[tuple[str, int]]:
        """Kind and code of the numbers with a unit that most patients have, in the order of the spec."""
        found = []
        for kind in self.kinds:
            e, units = self.cohort.events[kind], self.cohort.units[kind]
            counted = np.isfinite(e.value)
            # of the other patients alone: not even a count of this one's future
            counted[e.ptr[self.position] : e.ptr[self.position + 1]] = False
            count = np.bincount(e.code[counted], minlength=len(units))
            found += [(int(n), kind, code) for code, n in enumerate(count) if code and n and units[code]]
        best = sorted(found, key=lambda one: -one[0])[:MAX_PANELS]
        return [(kind, code) for _, kind, code in found if (_, kind, code) in best]

    def others(self, kind: str, code: int) -> np.ndarray:
        """The values of a code in all other patients."""
        e = self.cohort.events[kind]
        same = (e.code == code) & np.isfinite(e.value)
        same[e.ptr[self.position] : e.ptr[self.position + 1]] = False
        return e.value[same].astype(np.float64)


def _clean(text: str, width: int = 28) -> str:
    """Without control characters, and short enough for its place."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _header(figure: Figure, visible: _VisibleRows) -> None:
    name, day = _clean(str(visible.landmark.ids[0]), 40), f"{visible.at:g}"
    years = f" ({visible.at / YEAR:.1f} years)" if abs(visible.at) > YEAR else ""
    figure.text(0.03, 0.945, f"Patient {name}", size=16, weight="bold")
    figure.text(
        0.03, 0.912, _clean(f"{visible.cohort.spec.cohort} cohort    {visible.statics()}", 120), color=MUTED
    )
    figure.text(0.93, 0.945, f"as of day {day}{years}", size=13, weight="bold", color=NOW, ha="right")
    none = [kind for kind in visible.kinds if visible.rows[kind].start >= visible.rows[kind].stop]
    coverage = "no rows of: " + ", ".join(none) if none else "every node type has rows"
    figure.text(0.93, 0.912, _clean(coverage, 60), color=MUTED, ha="right")


def _time_axis(axes: Axes, visible: _VisibleRows, label: bool) -> None:
    width, name = visible.unit
    low, high = visible.start / width, visible.at / width
    room = max(high - low, 1 / width)
    axes.set_xlim(low - 0.03 * room, high + 0.06 * room)
    axes.axvline(high, color=NOW, lw=1.2, ls=(0, (4, 3)))
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    if label:
        axes.set_xlabel(f"{name} after the origin", size=8.5)
    else:
        axes.set_xticklabels([])


def _timeline(axes: Axes, visible: _VisibleRows) -> None:
    rows = ["timepoint", *visible.kinds]
    for i, kind in enumerate(rows):
        days = np.unique(visible.days(kind)) / visible.unit[0]
        axes.plot(
            days,
            np.full(len(days), -i),
            "o",
            ms=6,
            color=NODE_COLORS[i % len(NODE_COLORS)],
            mec="white",
            mew=0.6,
        )
    axes.set_yticks(range(0, -len(rows), -1), ["timepoints", *(_clean(k, 14) for k in visible.kinds)])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.spines["left"].set_visible(False)
    axes.set_title("What is known", weight="bold")
    _time_axis(axes, visible, label=False)
    axes.text(
        visible.at / visible.unit[0],
        1.03,
        "as of ",
        transform=axes.get_xaxis_transform(),
        color=NOW,
        ha="right",
        size=8.5,
    )


def _panel(axes: Axes, visible: _VisibleRows, kind: str, code: int, last: bool) -> None:
    e, rows = visible.cohort.events[kind], visible.rows[kind]
    measured = (e.code[rows] == code) & np.isfinite(e.value[rows])
    days = e.happened[rows][measured] / DAY / visible.unit[0]
    value = e.value[rows][measured].astype(np.float64)
    order = np.argsort(days, kind="stable")
    others = visible.others(kind, code)
    if len(others):
        quarter, three = np.quantile(others, [0.25, 0.75])
        axes.axhspan(quarter, three, color="#1f8a5b", alpha=0.10, lw=0)
    color = NODE_COLORS[(1 + visible.kinds.index(kind)) % len(NODE_COLORS)]
    axes.plot(days[order], value[order], "-o", color=color, ms=4.5, mfc="white", mew=1.3, lw=1.3)
    ends = np.concatenate([value, np.quantile(others, [0.02, 0.98]) if len(others) else value])
    if len(ends):
        margin = 0.08 * (ends.max() - ends.min() or 1.0)
        axes.set_ylim(ends.min() - margin, ends.max() + margin)
    axes.locator_params(axis="y", nbins=3)
    unit = visible.cohort.units[kind][code]
    axes.set_title(_clean(f"{visible.cohort.codes[kind][code]} ({unit})"), size=9.5, pad=4)
    if len(value):
        final = f"{value[order][-1]:.4g}"
        axes.set_title(final, size=9.5, pad=4, loc="right", color=color, weight="bold")
    else:
        axes.set_title("not measured", size=8.5, pad=4, loc="right", color=MUTED)
    _time_axis(axes, visible, label=last)


def _curves(axes: Axes, forecast: Forecast) -> None:
    width, name = (YEAR, "years") if forecast.times[-1] > 2 * YEAR else (1.0, "days")
    axes.set_title("What the model expects from this day on", weight="bold")
    end = forecast.times[-1] / width
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1)
    axes.set_yticks(np.linspace(0, 1, 6), [f"{p} %" for p in range(0, 101, 20)])
    axes.grid(color=GRID, lw=0.8)
    axes.tick_params(length=0)
    axes.set_xlabel(f"{name} after the as-of day", size=8.5)
    if not forecast.at_risk[0]:
        axes.text(
            0.5, 0.5, "not at risk on this day: no curve", transform=axes.transAxes, ha="center", color=MUTED
        )
        return
    grid = np.linspace(0, forecast.times[-1], 121)
    ends = []
    free = forecast.event_free[0]
    axes.plot(np.append(0, forecast.times) / width, np.append(1, free), color=MUTED, lw=1.3, ls=(0, (5, 2)))
    ends.append((float(free[-1]), "event-free", MUTED))
    for i, cause in enumerate(forecast.causes):
        color = CAUSE_COLORS[i % len(CAUSE_COLORS)]
        band = forecast.spreads(grid, cause) if forecast.is_calibrated else None
        if band is not None:
            axes.fill_between(grid / width, band[0][0], band[1][0], color=color, alpha=0.15, lw=0)
        curve = forecast.risks(grid, cause)[0]
        axes.plot(grid / width, curve, color=color, lw=2)
        ends.append((float(curve[-1]), cause, color))
    for height, (_, text, color) in zip(apart([e[0] for e in ends], 0.05), ends, strict=True):
        axes.text(end * 1.012, height, _clean(text, 14), color=color, va="center", clip_on=False)


def _numbers(axes: Axes, forecast: Forecast) -> None:
    """The same as figures at a few horizons, with the spread beside."""
    axes.axis("off")
    if not forecast.at_risk[0]:
        return
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    horizons = default_horizons(float(forecast.times[-1]))
    columns = np.linspace(0.42, 0.9, len(horizons))
    rows = 2 + len(forecast.causes)
    heights = 0.95 - np.arange(rows) / rows * min(1.0, 0.2 * rows)
    for x, horizon in zip(columns, horizons, strict=True):
        axes.text(x, heights[0], f"within {duration(horizon)}", ha="right", color=MUTED)
        free = 1.0
        for i, cause in enumerate(forecast.causes):
            risk = float(forecast.risk(cause, horizon)[0])
            spread = forecast.spread(horizon, cause) if forecast.is_calibrated else None
            free -= risk
            axes.text(x, heights[1 + i], f"{risk * 100:.0f} %", ha="right", weight="bold")
            if spread is not None:
                around = f" {spread[0][0] * 100:.0f}-{spread[1][0] * 100:.0f}"
                axes.text(x, heights[1 + i], around, ha="left", color=MUTED, size=8.5)
        axes.text(x, heights[-1], f"{free * 100:.0f} %", ha="right")
    for i, cause in enumerate(forecast.causes):
        axes.text(
            0, heights[1 + i], _clean(cause, 16), color=CAUSE_COLORS[i % len(CAUSE_COLORS)], weight="bold"
        )
    axes.text(0, heights[-1], "event-free", color=MUTED, weight="bold")
