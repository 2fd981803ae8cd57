"""The grammar of what a text hides: words, /expressions/, and cuts after a day."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, partial

from gnnpatient.errors import InputError


@cache
def finder(term: str) -> Callable[[str], list[tuple[int, int]]]:
    """What finds a term of `hide`: the places in a text where it begins and ends."""
    words = unicodedata.normalize("NFC", term).split()
    spelled = " ".join(words)
    if spelled in ("", "//"):
        raise InputError(f"mask {term!r}: is empty; write a word, a phrase or /an expression/")
    if cut := re.fullmatch(r"cut after day (\d+)", spelled, re.IGNORECASE):
        return partial(_later, day=int(cut[1]))
    if re.match(r"cut\W*after\b", spelled, re.IGNORECASE):
        raise InputError(
            f"mask {term!r}: is no day to cut after; write 'cut after day 3' with the day in digits, or "
            "/an expression/ where those words are to be masked"
        )
    if len(spelled) > 2 and spelled[0] == spelled[-1] == "/":
        try:
            expression = re.compile(term.strip()[1:-1], re.IGNORECASE)
        except re.error as error:
            raise InputError(f"mask {term!r}: {error}; mend the expression between the slashes") from None
        if expression.search(""):
            raise InputError(f"mask {term!r}: fits a text of nothing, so it fits everywhere; ask for more")
        return lambda text: [found.span() for found in expression.finditer(text) if found[0]]
    # by looking ahead, so that a phrase that begins within itself ("no, no") is found each time
    either = r"\s+".join(map(re.escape, words))
    phrase = re.compile(rf"(?<!\w)(?=({either})(?!\w))", re.IGNORECASE)
    return lambda text: [found.span(1) for found in phrase.finditer(text)]


_CARDINAL = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty"""
_ORDINAL = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
    fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"""
_NUMBER = {word: i for words in (_CARDINAL, _ORDINAL) for i, word in enumerate(words.split(), 1)}
_NUMBER |= {"thirty": 30, "thirtieth": 30}
_WORD = rf"(?:(?a:twenty|thirty)[\s-]+)?(?a:{'|'.join(_NUMBER)})"  # the two add up; no other script's s or i
_NUMBER |= {"a": 1, "an": 1}
_N = rf"(?:\d{{1,4}}(?:\.\d+)?|{_WORD})\b"
_NUMBERS = re.compile(rf"{_N}|\ban?\b", re.IGNORECASE)
_NO = r"(?:\s*(?:no|nr|number)\b\.?)?[\s#:+-]*"
_TO = r"(?:\s+(?:to|through)\s+|[-\u2013])"
_AND = r"(?:\s*[,&/\u2013-]|\s+(?:to|through|and|or)\b){1,2}\s*"
_SIZE = {"d": 1, "w": 7, "m": 30}  # days, by the first letter of the unit
_NAMED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:day|POD|HD\s?(?=#)){_NO}(?P<n>{_N}(?:{_TO}{_N})*)",  # a comma may end it: "day 2, 40 mg"
        rf"\bdays{_NO}(?P<n>{_N}(?:{_AND}{_N})*)",
        rf"\b(?:at|by|during|in|on|since|until)\s+(?P<unit>week|month){_NO}(?P<n>{_N}(?:{_TO}{_N})*)",
        rf"\b(?P<n>\d{{1,4}}(?=st|nd|rd|th)|{_WORD})(?:st|nd|rd|th)?[\s-]+(?:\w[\w-]*\s+)?day\b",
        rf"\b(?P<n>{_N}|an?)[\s-]+(?P<unit>d(?:ays?)?|w(?:ee)?ks?|mo(?:nth)?s?)"
        r"\s+(?:later|after(?:wards?)?|post\w*|into|from)\b",
    )
]


def _later(text: str, day: int) -> list[tuple[int, int]]:
    """From the first sentence that names a day after `day`, of several the last, to the end."""
    starts = [found.start() for pattern in _NAMED for found in pattern.finditer(text) if _days(found) > day]
    if not starts:
        return []
    ends = [end.end() for end in re.finditer(r"[.!?;]\s+|\n", text[: min(starts)])]
    return [(ends[-1] if ends else 0, len(text))]


def _days(found: re.Match[str]) -> float:
    """The last day that is named: the greatest of the numbers, times the days of its unit."""
    named = {name: (word or "").lower() for name, word in found.groupdict().items()}
    numbers = [
        float(one if one[0].isdigit() else sum(_NUMBER[word] for word in re.split(r"[\s-]+", one)))
        for one in _NUMBERS.findall(named["n"])
    ]
    return max(numbers) * _SIZE[named.get("unit", "day")[0]]
