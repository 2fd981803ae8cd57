"""Units of measurement: spellings of one unit are one, and values come in the unit that the spec wants.

Case counts, as in UCUM.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.tables import Conversion, UnitSpec

_SPELLED = {  # a part of a unit: as UCUM has it (ucum.org, case sensitive codes)
    **{"l": "L", "dl": "dL", "cl": "cL", "ml": "mL", "ul": "uL", "nl": "nL", "pl": "pL", "fl": "fL"},
    **{"mcg": "ug", "mcL": "uL", "mcl": "uL", "mcmol": "umol", "gm": "g"},
    **{"IU": "[IU]", "[iU]": "[IU]", "mIU": "m[IU]", "m[iU]": "m[IU]", "uIU": "u[IU]", "u[iU]": "u[IU]"},
    **{"kIU": "k[IU]", "k[iU]": "k[IU]"},
    **{"Eq": "eq", "mEq": "meq", "uEq": "ueq", "mOsm": "mosm", "Osm": "osm", "mmHg": "mm[Hg]"},
    **{"sec": "s", "secs": "s", "hr": "h", "hrs": "h", "day": "d", "days": "d"},
    **{"°C": "Cel", "degC": "Cel", "°F": "[degF]", "degF": "[degF]"},
}
_SIGNS = str.maketrans({"µ": "u", "μ": "u", "²": "2", "³": "3", "×": "x", "·": "."})  # noqa: RUF001


@lru_cache(maxsize=4096)
def plain_unit(name: str) -> str:
    """A unit as it is compared: without blanks, in the spelling of UCUM. Case counts: 1 MU is 10^9 mU.

    Parameters
    ----------
    name : str
        A unit as a table or a spec writes it.

    Returns
    -------
    str

    Examples
    --------
    >>> plain_unit("mg/dl") == plain_unit("mg / dL"), plain_unit("µmol/l"), plain_unit("x10^9/L")
    (True, 'umol/L', '10*9/L')
    >>> plain_unit("mU/L") == plain_unit("MU/L"), plain_unit("mg") == plain_unit("Mg")
    (False, False)
    """
    name = "".join(name.translate(_SIGNS).split())
    name = re.sub(r"^x(?=10[*^])", "", name).replace("10^", "10*").replace("^", "")
    return "".join(_SPELLED.get(part, part) for part in re.split(r"([/.*()\d+-]+)", name))


@dataclass(frozen=True, eq=False)
class ConvertedValues:
    """Values in the units that the spec wants.

    Attributes
    ----------
    value : numpy.ndarray
        (row,) float64.
    units : tuple of str
        The unit of each code.
    refused : dict
        Which rows to refuse, (row,) bool, by reason.
    bound : numpy.ndarray or None
        Sides of the values, (row,) int8; a factor below 0 turns them.
    """

    value: np.ndarray  # (row,) float64
    units: tuple[str, ...]
    refused: dict[str, np.ndarray]
    bound: np.ndarray | None


@dataclass(eq=False)
class _UnitsInUse:
    """In which units each code comes, and what [units] makes of them."""

    units: list[str]  # of each code
    conversions: list[tuple[int, str, float | None, float]]  # code, unit, factor (None = unknown), offset
    mixed: dict[str, tuple[str, str]] = field(default_factory=dict)  # code: two units that it comes in
    unknown: Counter[tuple[int, str]] = field(default_factory=Counter)  # values in a unit not in [units]
    blank: Counter[int] = field(default_factory=Counter)  # values without a unit

    @property
    def blank_beside_unit(self) -> dict[int, int]:
        """Values without a unit, of each code of which others have one."""
        return {code: n for code, n in self.blank.items() if n and self.units[code]}


def convert_values(
    source: SourceTables,
    kind: str,
    codes: tuple[str, ...],
    code: np.ndarray,
    unit: pl.Series,
    value: np.ndarray,
    *,
    blank: str = "refuse",
    bound: np.ndarray | None = None,
) -> ConvertedValues:
    """Values in the unit that [units] wants.

    A code that [units] does not name must come in one unit: numbers of two units are never mixed, and a
    number without a unit is not of the others' unit unless the spec says so.

    Parameters
    ----------
    source : SourceTables
        For the spec and for flags.
    kind : str
        The node type.
    codes : tuple of str
        Its codes.
    code : numpy.ndarray
        (row,) int32 position in `codes`.
    unit : polars.Series
        (row,) str, "" = none.
    value : numpy.ndarray
        (row,) float64, nan = missing.
    blank : {"refuse", "same"}, default "refuse"
        What a value without a unit is, of a code of which others have one.
    bound : numpy.ndarray, optional
        (row,) int8 sides of the values.

    Returns
    -------
    ConvertedValues

    Raises
    ------
    InputError
        When a code comes in two units and [units] does not convert one of them.
    """
    found = _units_in_use(source.spec, codes, code, unit, value)
    if found.mixed:
        _refuse_mixed(kind, found.mixed)
    beside = found.blank_beside_unit
    _flag_units(source, kind, codes, found, blank)
    unitless = np.zeros(len(code), bool)
    if beside and blank == "refuse":
        unitless = np.isin(code, list(beside)) & (unit == "").to_numpy() & ~np.isnan(value)
    reason = "no unit beside rows with one"
    if not found.conversions:
        return ConvertedValues(value, tuple(found.units), {reason: unitless}, bound)
    schema = {"code": pl.Int32, "unit": pl.String, "factor": pl.Float64, "offset": pl.Float64}
    conversions = pl.DataFrame(found.conversions, schema=schema, orient="row").with_columns(named=True)
    rows = pl.DataFrame({"code": code, "unit": unit})
    rows = rows.join(conversions, on=["code", "unit"], how="left", maintain_order="left")
    # where there is no number, the unit does not matter
    unknown = (rows["named"].fill_null(False) & rows["factor"].is_null()).to_numpy() & ~np.isnan(value)
    factor = rows["factor"].fill_null(1.0).to_numpy()
    if bound is not None:
        bound = np.where(factor < 0, -bound, bound)
    value = value * factor + rows["offset"].fill_null(0.0).to_numpy()
    wanted = [source.spec.unit(name) for name in codes]
    limits = np.array([(one and one.range) or (-np.inf, np.inf) for one in wanted])[code]
    beyond = ~unknown & ((value < limits[:, 0]) | (value > limits[:, 1]))
    refused = {"unknown unit": unknown, "out of range": beyond, reason: unitless}
    return ConvertedValues(value, tuple(found.units), refused, bound)


def _units_in_use(
    spec: GraphSpec, codes: tuple[str, ...], code: np.ndarray, unit: pl.Series, value: np.ndarray
) -> _UnitsInUse:
    rows = pl.DataFrame({"code": code, "unit": unit, "filled": ~np.isnan(value)})
    pairs = rows.group_by("code", "unit").agg(pl.len(), pl.col("filled").sum())
    pairs = pairs.sort("code", "len", "unit", descending=[False, True, False])
    wanted = [spec.unit(name) for name in codes]
    found = _UnitsInUse([one.to if one else "" for one in wanted], [])
    for i, name, _, count in pairs.iter_rows():
        target = wanted[i]
        if target is not None:
            way = _conversion(target, name)
            found.conversions.append((i, name, way.factor if way else None, way.offset if way else 0.0))
            found.unknown[i, name] += count * (way is None)
        elif not name:
            found.blank[i] += count
        elif not found.units[i]:
            found.units[i] = name
        elif plain_unit(name) != plain_unit(found.units[i]):
            found.mixed.setdefault(codes[i], (found.units[i], name))
    return found


def _conversion(wanted: UnitSpec, name: str) -> Conversion | None:
    """From a unit to the wanted one, by its name, else by another spelling of it; None = not known."""
    if name == wanted.to:
        return Conversion()
    if name in wanted.sources or not name:
        return wanted.sources.get(name)
    if plain_unit(name) == plain_unit(wanted.to):
        return Conversion()
    alike = (way for other, way in wanted.sources.items() if plain_unit(other) == plain_unit(name))
    return next(alike, None)


def _refuse_mixed(kind: str, mixed: Mapping[str, tuple[str, str]]) -> None:
    code, (to, other) = next(iter(mixed.items()))
    more = f" (and {len(mixed) - 1} more codes in two units)" if len(mixed) > 1 else ""
    case = (
        "; case counts: write 1 as FACTOR if both are the same unit"
        if to.casefold() == other.casefold()
        else ""
    )
    raise InputError(
        f"{kind}: code {code!r} comes in {to!r} and {other!r}; convert it, as in [units] "
        f'"{code}" = {{ to = "{to}", from = {{ "{other}" = FACTOR }} }}{case}{more}'
    )


def _flag_units(
    source: SourceTables, kind: str, codes: tuple[str, ...], found: _UnitsInUse, blank: str
) -> None:
    """Flag values in a unit that [units] does not know, and those without a unit beside others, by code."""
    listed = []
    for (code, name), n in (+found.unknown).most_common(5):
        wanted = source.spec.unit(codes[code])
        known = [wanted.to, *filter(None, wanted.sources)] if wanted else []
        listed.append(
            f"{n} of {codes[code]!r} in {name!r}{near(name, known)}"
            if name
            else f"{n} of {codes[code]!r} without a unit"
        )
    if listed:
        more = f" and {len(+found.unknown) - 5} more" if len(+found.unknown) > 5 else ""
        source.flag(f"{kind}: values refused, unknown unit: {', '.join(listed)}{more}", decides=True)
    most = sorted(found.blank_beside_unit.items(), key=lambda item: (-item[1], codes[item[0]]))
    if most:
        listed = [f"{n} of {codes[code]!r} (others in {found.units[code]!r})" for code, n in most[:5]]
        more = f" and {len(most) - 5} more codes" if len(most) > 5 else ""
        done = (
            'taken as the same unit, as blank = "same" says'
            if blank == "same"
            else (
                f'refused; blank = "same" in [nodes.{kind}] takes them as the same unit, '
                'from = { "" = FACTOR } in [units] converts those of a code'
            )
        )
        source.flag(f"{kind}: values without a unit: {', '.join(listed)}{more}; {done}", decides=True)
