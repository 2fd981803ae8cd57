"""When the rows of a table happened, became known and ended, by names and by what the columns hold."""

from __future__ import annotations

import re

from gnnpatient.propose import names
from gnnpatient.propose.parts import plain
from gnnpatient.propose.sheets import Sheet


def moments(sheet: Sheet) -> tuple[str | None, str | None, str | None]:
    """The columns that say when a row happened, became known and ended.

    Parameters
    ----------
    sheet : Sheet
        A table with a patient column.

    Returns
    -------
    time, known, until : str or None
        None where there is no such column.
    """
    if sheet.layout is not None:
        return sheet.layout.time, None, None
    kinds, columns = ("number", "date", "duration"), sheet.raw.columns
    able = [c for c in columns if sheet.kind[c] in kinds and c != sheet.key and not sheet.names_rows(c)]
    clocks = [c for c in able if names.CLOCK.search(plain(c))]
    able = [c for c in able if sheet.kind[c] != "number" or c in clocks]
    able = [c for c in able if c not in sheet.constant_columns and not names.FUTURE.search(plain(c))]
    able = [c for c in able if not re.search(r"^fu|follow|tte$", plain(c))]
    if not able and not sheet.standalone:  # all rows of a patient may have one time
        able = [c for c in clocks if c in sheet.constant_columns]
    starts = [c for c in able if not names.UNTIL.search(plain(c))]
    if not starts or (sheet.one_row_each and sheet.standalone):
        return None, None, None

    def rank(name: str) -> tuple[bool, int]:
        word, worst = plain(name), len(names.WHEN)
        level = next((i for i, named in enumerate(names.WHEN) if re.search(named, word)), worst)
        return bool(names.KNOWN.search(word)), level

    time = min(starts, key=rank)

    def after(named: re.Pattern[str], given: float, rightly: float) -> str | None:
        """A column of that name that is given, and not before `time`, in these shares of the rows."""
        for name in able:
            if name != time and named.search(plain(name)) and sheet.kind[name] == sheet.kind[time]:
                later = (sheet.cells[name] >= sheet.cells[time]).drop_nulls()
                if len(later) >= max(given * len(sheet.cells), 1) and later.sum() >= rightly * len(later):
                    return name
        return None

    return time, after(names.KNOWN, 0.95, 0.98), after(names.UNTIL, 0.0, 0.9)
