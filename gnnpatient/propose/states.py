"""What the words of a column of states mean: by the README, else by the words themselves."""

from __future__ import annotations

import re

import polars as pl

from gnnpatient.propose import names
from gnnpatient.propose.parts import plain, slug
from gnnpatient.propose.sheets import Sheet


def outcome_name(flag: str, fallback: str = "event") -> str:
    """The outcome that a flag is about.

    Parameters
    ----------
    flag : str
        Name of the column, or what two columns have in common.
    fallback : str, default "event"
        What a name is that says nothing, as status.

    Returns
    -------
    str

    Examples
    --------
    >>> outcome_name("death.stat"), outcome_name("pfs_status"), outcome_name("status")
    ('death', 'pfs', 'event')
    """
    word = plain(flag)
    if names.DEATH.search(word):
        return "death"
    stem = re.sub(r"[._ -](s|d|ev|e|i|ind)$", "", flag, flags=re.IGNORECASE)
    stem = names.FLAG.sub("", plain(stem))
    return "death" if re.fullmatch(names.OVERALL, stem) else slug(stem or fallback, "outcome")


def yes_words(sheet: Sheet, flag: str) -> list[str]:
    """The words of a column of 0 and 1 that mean 1, as they are written.

    Parameters
    ----------
    sheet : Sheet
        The table.
    flag : str
        The column.

    Returns
    -------
    list of str
    """
    return written(sheet, flag, ("1", "true"))


def written(sheet: Sheet, name: str, words: tuple[str, ...]) -> list[str]:
    """How some words of a column are written in the file, where 1.0 is 1.

    Parameters
    ----------
    sheet : Sheet
        The table.
    name : str
        The column.
    words : tuple of str
        The words, in the form of `Sheet.words`.

    Returns
    -------
    list of str
        Sorted, each once.
    """
    these = sheet.words(name).str.to_lowercase().is_in([word.lower() for word in words]).fill_null(False)
    return sorted({word.strip() for word in sheet.raw[name].filter(these).cast(pl.String).to_list()})


def documented_states(sheet: Sheet, flag: str) -> dict[str, str]:
    """What numbers mean by the README, as in `status 0 censored, 1 transplant, 2 death`.

    Parameters
    ----------
    sheet : Sheet
        The table.
    flag : str
        The column with the numbers.

    Returns
    -------
    dict of str to str
        By number: "censored", or a name; empty where the README does not say it of every number.
    """
    states = sheet.states(flag)
    lines = sheet.lines()
    for line in (*(re.sub(r"\([^)]*\)", "", line) for line in lines), *lines):
        if found := re.search(rf"(?<![\w.]){re.escape(flag)}(?![\w.])([^.;|]{{0,120}})", line):
            documented = dict(re.findall(r"(?<!\w)(\d)\s*[=:]?\s*([A-Za-z]{4,})", found[1]))
            documented = {"0": "censored"} | documented if "0" in states else documented
            if documented.keys() == states.keys():
                return {
                    s: "censored" if names.ALIVE.match(w) else slug(w, "event") for s, w in documented.items()
                }
    return {}


def meaning(sheet: Sheet, flag: str, *, leaving: bool = False) -> dict[str, str]:
    """What each word of a column of states means.

    Parameters
    ----------
    sheet : Sheet
        The table.
    flag : str
        The column.
    leaving : bool, default False
        The time beside it is that of a discharge: who leaves alive is not censored.

    Returns
    -------
    dict of str to str
        "censored", or the name of a cause.
    """
    documented, found = documented_states(sheet, flag), dict[str, str]()
    if not documented and not leaving and set(sheet.states(flag)) == {"1", "2"}:  # as R's survival codes it
        return {"1": "censored", "2": outcome_name(flag)}
    for state in sheet.states(flag):
        word = re.sub(r"^\d\s*[:=]\s*", "", state)  # 1:DECEASED
        if state in documented:
            found[state] = documented[state]
        elif names.ALIVE.match(word):  # leaving alive competes with death in hospital
            found[state] = "discharge" if leaving else "censored"
        else:
            found[state] = "death" if names.DEATH.search(plain(word)) else slug(word, "event")
    return found
