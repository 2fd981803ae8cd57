"""Words that look alike: letters of several scripts, digits of any, hidden characters."""

from __future__ import annotations

import unicodedata

import polars as pl

_LOOKS = str.maketrans(  # letters of Cyrillic and Greek that look like Latin ones
    "АВЕЅZІЈКМНОРСТУХаеіјорсухѕԁһԛԝѵΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανικρυχ‐‑‒–—−",  # noqa: RUF001
    "ABESZIJKMHOPCTYXaeijopcyxsdhqwvABEZHIKMNOPTYXoavikpux------",
)
_LATIN, _OTHERS = r"\p{Latin}", r"[\p{L}&&[^\p{Latin}]]"


def normalized(words: pl.Series) -> pl.Series:
    """Words without case, blanks and hidden characters, in one Unicode form.

    Parameters
    ----------
    words : polars.Series
        (word,) str; null stays null.

    Returns
    -------
    polars.Series
        Two words that differ in nothing else are equal here.

    Examples
    --------
    >>> normalized(pl.Series(["P 1", "p1"])).to_list()
    ['p1', 'p1']
    """
    return words.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{Cf}]+", "")


def latin_lookalikes(words: pl.Series) -> pl.Series:
    r"""Words as they look: letters of other scripts that look like Latin ones, and digits of any, as those.

    Parameters
    ----------
    words : polars.Series
        (word,) str; null stays null.

    Returns
    -------
    polars.Series
        Two words that look the same are equal here.

    Examples
    --------
    >>> latin_lookalikes(pl.Series(["\u0420\u0421-1"])).to_list()  # Cyrillic Er and Es
    ['PC-1']
    """
    far = words.filter(words.str.len_bytes() != words.str.len_chars()).unique()
    looks = {word: _latin_lookalike(word) for word in far.drop_nulls()}
    return words.replace(looks) if looks else words


def _latin_lookalike(word: str) -> str:
    letters = unicodedata.normalize("NFKC", word).translate(_LOOKS)
    return "".join(str(unicodedata.decimal(c, c)) for c in letters if unicodedata.category(c) != "Cf")


def script_flags(words: pl.Series, what: str, *, letters: bool = True) -> list[str]:
    """Flags of words that look the same but are written differently.

    Parameters
    ----------
    words : polars.Series
        (word,) str; repeats and nulls do not count.
    what : str
        What the words are, as in "id(s)".
    letters : bool, default True
        Flag, too, a word that mixes letters of two scripts, and some words in another script than the others.

    Returns
    -------
    list of str
        At most one flag of each sort, with how many words it concerns.
    """
    words = words.drop_nulls().unique()
    latin, other = (words.str.contains(letters) for letters in (_LATIN, _OTHERS))
    mixed = int((latin & other).sum())
    alone = min(int((latin & ~other).sum()), int((other & ~latin).sum()))
    # wide and hidden characters are flagged elsewhere
    bare = words.str.normalize("NFKC").str.replace_all(r"\p{Cf}", "")
    alike = bare.n_unique() - latin_lookalikes(bare).n_unique()
    flags = []
    if mixed and letters:
        flags.append(f"{mixed} {what} mix letters of two scripts, as Latin and Cyrillic")
    if alone and letters:
        flags.append(f"{alone} {what} are written in another script than the others")
    if alike:
        flags.append(f"{alike} {what} look like another one and are written with other letters or digits")
    return flags
