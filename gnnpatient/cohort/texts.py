"""Report texts before they are embedded: cleaned, masked, de-identified, cut into pieces of bounded length.

In that order. Every function takes one text and gives what became of it, and how much that was.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from gnnpatient.errors import Refused

MASKED = "[masked]"
WORDS, OVERLAP, LIMIT = 200, 40, 64  # words a piece, words that two neighbours share, pieces a text
WORD = 100  # characters; what is longer (a blob, a language without spaces) counts as several words
LETTERS = 16  # characters a word on average; a longer text loses its middle before its words are counted

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")  # of a terminal
_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(  # control characters but tab and newline, invisible ones, those that turn the direction
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def clean(text: str | None) -> str | None:
    """The text without control characters and terminal escapes, in NFC, trimmed. None where nothing is left.

    Line breaks become \\n. Tags, scripts and the like stay: they are text, and whoever shows it escapes it.

    >>> clean("Findings:\\0\\x07\\x1b[31m clear lungs \\r\\n")
    'Findings: clear lungs'
    >>> clean("  \\x00 ") is None
    True
    """
    if text is None:
        return None
    text = _UNSEEN.sub("", _BREAK.sub("\n", _ESCAPE.sub("", text)))
    return unicodedata.normalize("NFC", text).strip() or None


def mask(text: str, terms: Sequence[str]) -> tuple[str, int]:
    """The text with every term as "[masked]", and how many were.

    A term is a whole word or phrase, in any case, over line breaks too; /.../ is a regular expression of
    Python's, in any case; "cut after day 3" takes away all from the first sentence on that names a later day
    ("day 7", "7th day", "7 days later"; in digits, or in words up to twelve). Terms that overlap count once.
    Refused: an empty term, a broken expression, one that fits a text of nothing.

    >>> mask("He died on day 7; his brother studied.", ["died"])
    ('He [masked] on day 7; his brother studied.', 1)
    >>> mask("Stable on day 2. Intubated on day 7. Died.", ["cut after day 3"])
    ('Stable on day 2. [masked]', 1)
    """
    phrases, patterns, day = _patterns(tuple(terms))
    spans = [found.span() for pattern in patterns for found in pattern.finditer(text)]
    spans += [found.span(1) for found in phrases.finditer(text)] if phrases else []
    if day is not None and (start := _later(text, day)) is not None:
        spans.append((start, len(text)))
    parts: list[str] = []
    end = count = 0
    for first, last in sorted(span for span in spans if span[0] < span[1]):
        if first >= end:
            parts += [text[end:first], MASKED]
            count += 1
        end = max(end, last)
    return "".join([*parts, text[end:]]), count


@lru_cache(maxsize=64)
def _patterns(
    terms: tuple[str, ...],
) -> tuple[re.Pattern[str] | None, tuple[re.Pattern[str], ...], int | None]:
    """Words and phrases as one expression, the user's own each by itself, and the day of the earliest cut."""
    words, own, days = [], [], []
    for term in terms:
        if not term.strip() or term == "//":
            raise Refused(f"mask {term!r}: is empty; write a word, a phrase or /an expression/")
        if found := re.fullmatch(r"\s*cut after day (\d+)\s*", term, re.IGNORECASE):
            days.append(int(found[1]))
        elif len(term) > 2 and term[0] == term[-1] == "/":
            try:
                own.append(re.compile(term[1:-1], re.IGNORECASE))
            except re.error as error:
                raise Refused(f"mask {term!r}: {error}; mend the expression between the slashes") from None
            if own[-1].search(""):
                raise Refused(f"mask {term!r}: fits a text of nothing, so it fits everywhere; ask for more")
        else:
            words.append(r"\s+".join(map(re.escape, unicodedata.normalize("NFC", term).split())))
    # the longest first, so that a phrase goes before its first word; found by looking ahead, so that two
    # phrases that share a word are both found
    either = "|".join(sorted(words, key=len, reverse=True))
    phrases = re.compile(rf"(?<!\w)(?=((?:{either})(?!\w)))", re.IGNORECASE) if words else None
    return phrases, tuple(own), min(days, default=None)


_NUMBER = {
    **{"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5},
    **{"sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12},
}
_SAID = "|".join(_NUMBER)
_DAY = re.compile(
    rf"\bdays?[\s#-]+(?P<a>\d{{1,4}}|{_SAID})\b"
    rf"|\b(?:(?P<b>\d{{1,4}})(?:st|nd|rd|th)|(?P<c>{_SAID}))[\s-]+(?:\w+\s+)?day\b"
    rf"|\b(?P<d>\d{{1,4}}|{_SAID})\s+days?\s+(?:later|after|post|into|from)\b",
    re.IGNORECASE,
)


def _later(text: str, day: int) -> int | None:
    """Where the first sentence begins that names a day after `day`."""
    for found in _DAY.finditer(text):
        said = next(group for group in found.groups() if group).lower()
        if (int(said) if said.isdigit() else _NUMBER[said]) > day:
            ends = [end.end() for end in re.finditer(r"[.!?;]\s+|\n", text[: found.start()])]
            return ends[-1] if ends else 0
    return None


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|(?-i:May|MAY)|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_TELLING = {  # in this order: an e-mail may hold what looks like a date, an id what looks like a phone
    "[email]": r"(?i:\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5})",
    "[date]": rf"(?i:\b(?:\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+\d{{4}})?"
    rf"|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?|{_MONTH},?\s+(?:19|20)\d\d"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d\d))(?![\w])(?!-\d))",
    "[id]": r"(?i:\b(?:mrn|ssn|nhs|dni|id|accession|record|chart|case|account|patient)\b"
    r"(?:\s*(?:no|number|nr|id)\b\.?)?[\s:#]*(?=[\w-]*\d)[\w-]{3,40}\b"
    r"|\b\d{3}-\d{2}-\d{4}\b|\b[a-z]{0,4}\d{6,}\b)",
    "[phone]": r"(?i:(?:\b(?:tel|phone|fax|mobile|pager)\b[\s.:]*)?(?:\+\d{1,3}[\s.-]?)?"
    r"(?:(?:\(\d{2,4}\)|\b\d{2,4})[\s.-]\d{3,4}[\s.-]\d{3,4}|\b\d{3}-\d{4})\b"
    r"|\b(?:tel|phone|fax|mobile|pager)\b[\s.:]*\+?\d[\d\s().-]{4,18}\d\b)",
    "[name]": r"\b(?:Dr|Mr|Mrs|Ms|Prof|Professor|Doctor|Nurse)\.?\s+[A-Z][\w'-]+(?:\s+[A-Z][\w'-]+)?",
}
_TELLING_RE = {word: re.compile(pattern) for word, pattern in _TELLING.items()}


def deidentify(text: str) -> tuple[str, int]:
    """The text with what looks like an e-mail, date, id, phone or titled name replaced, and how many were.

    No guarantee: names without a title, places, ages and rare findings stay, and so does what is misspelt. It
    is a second lock beside an agreement on the data, never in place of one. Measurements such as 120/80 stay.

    >>> deidentify("Jane Doe, MRN 555-01-2345, tel 555-0100, seen by Dr. Example on 4 March 2021.")
    ('Jane Doe, [id], [phone], seen by [name] on [date].', 4)
    """
    count = 0
    for word, pattern in _TELLING_RE.items():
        text, more = pattern.subn(word, text)
        count += more
    return text, count


def pieces(
    text: str, words: int = WORDS, overlap: int = OVERLAP, limit: int = LIMIT
) -> tuple[list[str], bool]:
    """Overlapping pieces of a text, each as it stands in it, and whether they cover the whole of it.

    A text of more than `limit` pieces gives its first and its last `limit / 2`: what was found stands at the
    beginning of a report, what it means at its end. Time and memory are bounded by `limit`, not by the text.
    A blank text gives none.
    """
    if not 0 <= overlap < words or limit < 2:
        raise Refused(
            f"pieces of {words} words, {overlap} shared, at most {limit}: cannot be; share fewer words than "
            "a piece has, and allow two pieces"
        )
    half, whole = limit * words * LETTERS // 2, True
    if len(text) > 2 * half:
        text, whole = f"{text[:half]}\n\n{text[-half:]}", False
    spans = [found.span() for found in re.finditer(rf"\S{{1,{WORD}}}", text)]
    if not spans:
        return [], True
    starts = list(range(0, max(len(spans) - overlap, 1), words - overlap))
    if len(starts) > limit:
        starts, whole = starts[: (limit + 1) // 2] + starts[-(limit // 2) :], False
    ends = [min(start + words, len(spans)) for start in starts]
    found = [text[spans[a][0] : spans[b - 1][1]] for a, b in zip(starts, ends, strict=True)]
    return found, whole


def chunks(text: str, words: int = WORDS, overlap: int = OVERLAP, limit: int = LIMIT) -> list[str]:
    """The pieces alone.

    >>> chunks("one two three four five", words=3, overlap=1)
    ['one two three', 'three four five']
    """
    return pieces(text, words, overlap, limit)[0]
