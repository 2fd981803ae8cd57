"""Units of measurement as they are compared: case counts (UCUM), and spellings of one unit are one."""

from __future__ import annotations

import re
from functools import lru_cache

SPELLED = {  # a part of a unit: as UCUM has it (ucum.org, case sensitive codes)
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
    """A unit as it is compared. Blanks are nothing, case counts: 1 MU is 1 000 000 000 mU.

    >>> plain_unit("mg/dl") == plain_unit("mg / dL"), plain_unit("µmol/l"), plain_unit("x10^9/L")
    (True, 'umol/L', '10*9/L')
    >>> plain_unit("mU/L") == plain_unit("MU/L"), plain_unit("mg") == plain_unit("Mg")
    (False, False)
    """
    name = "".join(name.translate(_SIGNS).split())
    name = re.sub(r"^x(?=10[*^])", "", name).replace("10^", "10*").replace("^", "")
    return "".join(SPELLED.get(part, part) for part in re.split(r"([/.*()\d+-]+)", name))
