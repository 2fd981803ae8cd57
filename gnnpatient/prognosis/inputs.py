"""What a model knows of its inputs, and how the inputs of another cohort differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError
from gnnpatient.graphs import Names, frequent

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort

EDGE_SHARE = 0.01  # of the patients that have a value beyond either end of a training range
MIN_FAR_SHARE = 0.05  # share of values far outside it from which on they are reported
RANGE_DIGITS = 2  # significant digits of a range, so that it holds no patient's own value


@dataclass(frozen=True, eq=False)
class VisibleRows:
    """The rows of one node type that are visible at some landmarks, each once, sorted by code.

    Attributes
    ----------
    patient : ndarray
        Position of the row's patient.
    code : ndarray
        Position in the cohort's codes.
    value : ndarray
        The value; nan is missing.
    bounds : int
        How many of the values are bounds: the truth lies below or above.
    """

    patient: np.ndarray  # (row,) int64
    code: np.ndarray  # (row,) int64
    value: np.ndarray  # (row,) float32
    bounds: int

    @classmethod
    def of(cls, landmarks: Landmarks, kind: str) -> VisibleRows:
        """Collect the rows.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.
        kind : str
            A node type of the cohort.

        Returns
        -------
        VisibleRows
        """
        events = landmarks.cohort.events[kind]
        _, _, row = events.visible_rows(landmarks.patient, landmarks.at)
        row = np.unique(row)
        row = row[np.argsort(events.code[row], kind="stable")]
        bounds = 0 if events.bound is None else int((events.bound[row] != 0).sum())
        return cls(events.patient[row], events.code[row].astype(np.int64), events.value[row], bounds)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Of each code that is there: its position, its values that are not missing, their patients."""
        code, start = np.unique(self.code, return_index=True)
        end = np.append(start, len(self.code))[1:]
        for c, first, last in zip(code.tolist(), start, end, strict=True):
            has_value = np.isfinite(self.value[first:last])
            yield c, self.value[first:last][has_value].astype(np.float64), self.patient[first:last][has_value]


def learned(landmarks: Landmarks, least: int) -> dict[str, Any]:
    """Collect what a model knows of its inputs: units and ranges of codes, ranges of static numbers.

    A range is kept of codes that at least `least` patients have; as many have a value beyond either end.

    Parameters
    ----------
    landmarks : Landmarks
        The training landmarks.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    dict
        ``codes`` by node type and code with ``unit``, ``from`` and ``range``; ``numbers`` by name.
    """
    cohort = landmarks.cohort
    codes: dict[str, dict[str, Any]] = {}
    for kind in cohort.spec.nodes:
        codes[kind] = {}
        for c, value, patient in VisibleRows.of(landmarks, kind):
            if c and len(np.unique(patient)) >= least:
                name = cohort.codes[kind][c]
                unit_spec = cohort.spec.unit(name)
                sources = {} if unit_spec is None else unit_spec.sources
                conversions = {u: [c.factor, c.offset] for u, c in sources.items()}
                # where a blank may be any unit, the unit may come from one patient's rows alone
                is_unit_certain = unit_spec is not None or cohort.spec.nodes[kind].blank != "same"
                unit = cohort.units[kind][c] if is_unit_certain else ""
                known_range = _range(value, patient, least)
                codes[kind][name] = {"unit": unit, "from": conversions, "range": known_range}
    numbers, last = {}, last_landmarks(landmarks)
    statics, _ = cohort.statics(last.patient, last.at)
    for name, value in zip(cohort.spec.patient.number, statics.T.astype(np.float64), strict=True):
        has_value = np.isfinite(value)
        if has_value.sum() >= least:
            numbers[name] = _range(value[has_value], last.patient[has_value], least)
    return {"codes": codes, "numbers": numbers}


def last_landmarks(landmarks: Landmarks) -> Landmarks:
    """Keep of each patient the last landmark, at which all rows of the earlier ones are visible.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.

    Returns
    -------
    Landmarks

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365, 1095])
    >>> len(X), len(last_landmarks(X)) == len(np.unique(X.patient))
    (936, True)
    """
    order = np.lexsort((landmarks.at, landmarks.patient))
    return landmarks[order[np.append(np.diff(landmarks.patient[order]) != 0, True)[: len(order)]]]


def spaced_landmarks(landmarks: Landmarks, count: int) -> Landmarks:
    """Keep some of the landmark times, evenly spaced: entry, where it is one, and the last among them.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    count : int
        How many landmark times.

    Returns
    -------
    Landmarks

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 100, 200, 365, 1095])
    >>> np.unique(spaced_landmarks(X, 3).days)
    array([   0.,  200., 1095.])
    """
    moments = landmarks.moments
    every = np.unique(moments)
    chosen = every[np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))]
    return landmarks[np.isin(moments, chosen)]


def _range(value: np.ndarray, patient: np.ndarray, least: int) -> list[float]:
    """A range: beyond either end a hundredth of the patients, and at least `least`, have a value."""
    order = np.argsort(patient, kind="stable")
    start = np.unique(patient[order], return_index=True)[1]
    rank = max(least, int(np.ceil(EDGE_SHARE * len(start)))) - 1
    low = np.sort(np.minimum.reduceat(value[order], start))[rank]
    high = np.sort(np.maximum.reduceat(value[order], start))[::-1][rank]
    low, high = min(low, high), max(low, high)  # of few patients they may cross
    return [float(f"{low:.{RANGE_DIGITS}g}"), float(f"{high:.{RANGE_DIGITS}g}")]


def _far(value: np.ndarray, ends: list[float]) -> np.ndarray:
    """Which values lie farther outside a range than it is wide."""
    low, high = ends
    width = max(high - low, 0.1 * max(abs(low), abs(high))) if high > low else max(abs(high), 1.0)
    return (value < low - width) | (value > high + width)


class UnitHere(NamedTuple):
    """How values of a cohort become those that a model knows: factor * value + offset.

    Attributes
    ----------
    factor, offset : float
    unit : str
        The cohort's.
    """

    factor: float
    offset: float
    unit: str


def in_known_units(inputs: Mapping[str, Any], cohort: Cohort) -> Cohort:
    """Convert every code to the unit in which the model knows it.

    Where the model's spec, or this cohort's, gives the conversion. A code without a unit on one side is kept
    as it is, see `differences`.

    Parameters
    ----------
    inputs : mapping
        What the model knows, from `learned`.
    cohort : Cohort
        In its own units.

    Returns
    -------
    Cohort
        The same object where nothing is converted.

    Raises
    ------
    InputError
        When neither spec gives the conversion.
    """
    events, units = dict(cohort.events), dict(cohort.units)
    for kind, known in inputs.get("codes", {}).items():
        if kind not in cohort.codes:
            continue
        factor, offset = np.ones(len(cohort.codes[kind])), np.zeros(len(cohort.codes[kind]))
        used_units = list(units[kind])
        for c, name in enumerate(cohort.codes[kind]):
            theirs = known.get(name, {}).get("unit", "")
            if theirs and used_units[c] and theirs != used_units[c] and len(events[kind]):
                factor[c], offset[c] = _conversion(cohort, kind, name, used_units[c], known[name])
                used_units[c] = theirs
        if used_units != list(units[kind]):
            e = events[kind]
            value = (e.value * factor[e.code] + offset[e.code]).astype(np.float32)
            bound = e.bound  # a factor below 0 turns its side
            if bound is not None and (factor < 0).any():
                bound = np.where(factor[e.code] < 0, -bound, bound).astype(np.int8)
            events[kind], units[kind] = replace(e, value=value, bound=bound), tuple(used_units)
    if units == cohort.units:
        return cohort
    return replace(cohort, events=events, units=units, path=None, manifest_hash=None)


def unit_here(
    inputs: Mapping[str, Any], cohort: Cohort, kind: str, codes: Collection[str]
) -> UnitHere | None:
    """Give the unit that some codes have in a cohort, where the model knows them in another one.

    Parameters
    ----------
    inputs : mapping
        What the model knows, from `learned`.
    cohort : Cohort
        In its own units.
    kind : str
        Node type.
    codes : collection of str
        Names of codes.

    Returns
    -------
    UnitHere or None
        None: the same unit, or a unit is not known.

    Raises
    ------
    InputError
        When the codes are converted in different ways, or turned around.
    """
    known, found = inputs.get("codes", {}).get(kind, {}), set[UnitHere]()
    for name, unit in zip(cohort.codes.get(kind, ()), cohort.units.get(kind, ()), strict=True):
        theirs = known.get(name, {}).get("unit", "") if name in codes else ""
        same = not theirs or not unit or theirs == unit
        way = (1.0, 0.0) if same else _conversion(cohort, kind, name, unit, known[name])
        if name in codes:
            found.add(UnitHere(*way, unit or theirs))
    if all(one.factor == 1 and one.offset == 0 for one in found):
        return None
    if len(found) > 1 or min(found).factor <= 0:
        raise InputError(
            f"{kind} {', '.join(sorted(codes))}: the model forecasts one value of them, and their units here "
            "are not converted to its own by one factor above 0; pack the cohort again, in one unit"
        )
    return found.pop()


def _conversion(
    cohort: Cohort, kind: str, name: str, unit: str, known: Mapping[str, Any]
) -> tuple[float, float]:
    """Factor and offset from the unit here to the model's."""
    if (way := known["from"].get(unit)) is not None:
        return way[0], way[1]
    here = cohort.spec.unit(name)
    back = None if here is None else here.sources.get(known["unit"])
    if back is not None:  # here = factor * theirs + offset
        return 1 / back.factor, -back.offset / back.factor
    raise InputError(
        f"{kind} {name!r} is in {unit!r} here, the model knows it in {known['unit']!r}; give the conversion "
        f'in the spec: [units] {name!r} = {{ to = "{known["unit"]}", from = {{ "{unit}" = FACTOR }} }}, and '
        "pack again"
    )


def differences(
    inputs: Mapping[str, Any],
    levels: Mapping[str, Any],
    landmarks: Landmarks,
    bounded: Collection[str] | None = None,
) -> list[str]:
    """Describe what differs between training and these landmarks.

    Codes without a unit where the model has one or the other way round, values far outside the training
    range, bounds of node types that had none, levels that the model does not know, static columns that are
    missing.

    Parameters
    ----------
    inputs : mapping
        What the model knows, from `learned`.
    levels : mapping of str to collection of str
        Of each static category the levels that the model knows.
    landmarks : Landmarks
        Patients at prediction times.
    bounded : collection of str, optional
        Node types whose bounds the model knows; default: not compared.

    Returns
    -------
    list of str
        Sentences with names and shares.

    Raises
    ------
    InputError
        When a unit cannot be converted.
    """
    cohort, found = in_known_units(inputs, landmarks.cohort), []
    for kind, known in inputs.get("codes", {}).items():
        if kind not in cohort.codes:
            continue
        seen = VisibleRows.of(Landmarks(cohort, landmarks.patient, landmarks.at), kind)
        given = int(np.isfinite(seen.value).sum())
        if bounded is not None and kind not in bounded and seen.bounds > MIN_FAR_SHARE * given:
            found.append(
                f"{kind}: {seen.bounds / given:.0%} of {given} values are bounds (< or >), which the "
                "model takes for the number: there were none, or few, in training"
            )
        for c, value, _ in seen:
            name = cohort.codes[kind][c]
            if (of := known.get(name)) is None or not len(value):
                continue
            before, here, theirs = landmarks.cohort.units[kind][c], cohort.units[kind][c], of["unit"]
            if before != here:
                found.append(f"{kind} {name!r}: converted from {before!r} to the model's {theirs!r}")
            elif here != theirs:
                found.append(
                    f"{kind} {name!r}: unit {here or 'none'!r} here, {theirs or 'none'!r} in training"
                )
            found += _far_sentence(f"{kind} {name!r}", value, of["range"])
    last, numbers = last_landmarks(landmarks), cohort.spec.patient.number
    number, category = cohort.statics(last.patient, last.at)
    for name, ends in inputs.get("numbers", {}).items():
        if name not in numbers:
            found.append(f"static {name!r} is not here; every patient counts as one without it")
            continue
        value = number[:, numbers.index(name)].astype(np.float64)
        found += _far_sentence(f"static {name!r}", value[np.isfinite(value)], ends)
    for name, known in levels.items():
        if name not in cohort.levels:
            found.append(f"static {name!r} is not here; every patient counts as one without it")
            continue
        level = category[:, cohort.spec.patient.category.index(name)]
        strange = np.array([one not in known for one in cohort.levels[name]], bool)
        share = float(strange[level[level >= 0]].mean()) if (level >= 0).any() else 0.0
        if share:
            found.append(
                f"static {name!r}: {share:.0%} of the patients have a level rare or unknown in training"
            )
    return found


def _far_sentence(what: str, value: np.ndarray, ends: list[float]) -> list[str]:
    share = float(_far(value, ends).mean()) if len(value) else 0.0
    if share < MIN_FAR_SHARE:
        return []
    low, high = ends
    if len(value) == 1:
        return [f"{what}: its value lies far outside the training range {low:g} to {high:g}"]
    return [
        f"{what}: {share:.0%} of {len(value)} values lie far outside the training range {low:g} to {high:g}"
    ]


def refuse_strangers(
    inputs: Mapping[str, Any],
    codes: Mapping[str, Any],
    numbers: tuple[str, ...],
    levels: Mapping[str, Any],
    landmarks: Landmarks,
) -> None:
    """Check that the model knows every node type with rows and every static column.

    Parameters
    ----------
    inputs : mapping
        What the model knows, from `learned`.
    codes : mapping of str to collection of str
        The model's node types.
    numbers : tuple of str
        The model's static numbers.
    levels : mapping of str to collection of str
        The model's static categories.
    landmarks : Landmarks
        Patients at prediction times.

    Raises
    ------
    InputError
        When the model does not know one of them.
    """
    cohort = landmarks.cohort
    statics = (*cohort.spec.patient.number, *cohort.spec.patient.category)
    kinds = [kind for kind in cohort.spec.nodes if kind not in codes and len(cohort.events[kind])]
    columns = [name for name in statics if name not in numbers and name not in levels]
    if not kinds and not columns:
        return
    what = f"node type {kinds[0]!r}" if kinds else f"static {columns[0]!r}"
    every = ", ".join(codes if kinds else (*numbers, *levels)) or "none"
    others = "".join(f"; {one}" for one in differences(inputs, levels, landmarks))
    raise InputError(
        f"the model knows no {what} (it has {every}); name it as in training, or take it out of the spec"
        + others
    )


def restrict(landmarks: Landmarks, kinds: Sequence[str] | None) -> Landmarks:
    """The same landmarks, at which only some node types are visible.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    kinds : sequence of str or None
        Node types; those that the cohort lacks are skipped. None: all.

    Returns
    -------
    Landmarks
    """
    if kinds is None:
        return landmarks
    cohort = landmarks.cohort.only(kind for kind in kinds if kind in landmarks.cohort.spec.nodes)
    return Landmarks(cohort, landmarks.patient, landmarks.at, landmarks.to)


def kept_names(landmarks: Landmarks, min_patients: int = 10) -> Names:
    """Find the codes and levels of training landmarks that keep their name.

    For whatever is fitted on them: ``kept_names(X).merge(build_graphs(other))`` are the graphs of any
    landmarks by those names.

    Parameters
    ----------
    landmarks : Landmarks
        The training landmarks.
    min_patients : int
        Patients that a name needs, default 10.

    Returns
    -------
    Names
    """
    return frequent(build_graphs(last_landmarks(landmarks)), min_patients)
