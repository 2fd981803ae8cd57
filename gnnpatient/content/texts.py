"""Report texts before they are embedded: cleaned, masked and cut into pieces, in that order."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from gnnpatient.errors import InputError
from gnnpatient.spec.masks import finder

MASKED = "[masked]"
WORDS, OVERLAP, LIMIT = 200, 40, 64  # words a piece, words that two neighbours share, pieces a text
MAX_WORD_LENGTH = (
    100  # characters; what is longer (a blob, a language without spaces) counts as several words
)
MEAN_WORD_LENGTH = 16  # characters; a longer text loses its middle before its words are counted

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")  # of a terminal
_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(  # control characters but tab and newline, invisible ones, those that turn the direction
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def clean(text: str | None) -> str | None:
    """The text without control characters and terminal escapes, in NFC, trimmed.

    Line breaks become \\n. Tags, scripts and the like stay: they are text, which a page must escape.

    Parameters
    ----------
    text : str or None
        A cell of a table.

    Returns
    -------
    str or None
        None where nothing is left.

    Examples
    --------
    >>> clean("Findings:\\0\\x07\\x1b[31m clear lungs \\r\\n")
    'Findings: clear lungs'
    >>> clean("  \\x00 ") is None
    True
    """
    if text is None:
        return None
    text = _UNSEEN.sub("", _BREAK.sub("\n", _ESCAPE.sub("", text)))
    return unicodedata.normalize("NFC", text).strip() or None


def hide(text: str, terms: Sequence[str] = (), deidentify: bool = False) -> tuple[str, Counter[str], int]:
    """Mask terms that may tell an outcome, and take out what looks as if it identified the patient.

    A term, which leaves "[masked]", is a whole word or phrase, in any case, over line breaks too; /.../ is a
    regular expression of Python's, in any case; "cut after day 3" takes away all from the first sentence on
    that names a later day: "day 7", "days 2 to 7", "POD 7", "HD#7", "7th day", "7 days later", "a week
    after", "at week 2" (7 days each; a month is 30), in digits, or in words up to thirty-nine. It errs on the
    side of taking more. It does not find "D7", "after 7 days", "the next day", "a few days later", "second
    week", years, dates, weekdays, a range with blanks around its dash ("day 2 - 7"), or another language.

    With `deidentify`, what looks like an e-mail, date, id, phone or titled name leaves a word for it.
    There is no guarantee: names without a title, places, ages and rare findings stay, and so does what is
    misspelt. It is a second lock beside an agreement on the data, never in place of one. Measurements such as
    120/80 stay.

    Both look at the original text, so that neither takes away what the other goes by; overlapping pieces
    become one.

    Parameters
    ----------
    text : str
        A cleaned text.
    terms : sequence of str, default none
        Words, phrases, /expressions/ and cuts.
    deidentify : bool, default False
        Whether identifying pieces are replaced.

    Returns
    -------
    hidden : str
        The text with its pieces replaced.
    count : Counter of str
        How often each term was found, 0 too.
    identifying : int
        How many identifying pieces were found.

    Raises
    ------
    InputError
        When a term is empty, a broken expression, one that matches an empty text, or a cut of another form.

    Examples
    --------
    >>> hide("He died on day 7; his brother studied.", ["died"])
    ('He [masked] on day 7; his brother studied.', Counter({'died': 1}), 0)
    >>> hide("Stable on day 2. Intubated on day 7. Died.", ["cut after day 3"])[0]
    'Stable on day 2. [masked]'
    >>> hide("Jane Doe, MRN 555-01-2345, seen by Dr. Example on 4 March 2021.", deidentify=True)[0]
    'Jane Doe, [id], seen by [name] on [date].'
    """
    places = {term: finder(term)(text) for term in terms}
    identifying = _identifying(text) if deidentify else []
    holes: list[tuple[int, int, str]] = []
    for first, last, word in sorted(
        [*((*at, MASKED) for found in places.values() for at in found), *identifying]
    ):
        # identifying pieces do not overlap, so one of the two is a term's
        if holes and first < holes[-1][1]:
            begun, ended, _ = holes.pop()
            holes.append((begun, max(ended, last), MASKED))
        else:
            holes.append((first, last, word))
    parts, end = list[str](), 0
    for first, last, word in holes:
        parts += [text[end:first], word]
        end = last
    count = Counter({term: len(found) for term, found in places.items()})
    return "".join([*parts, text[end:]]), count, len(identifying)


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|(?-i:May|MAY)|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_IDENTIFYING = {  # in this order: an e-mail may hold what looks like a date, an id what looks like a phone
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
_IDENTIFYING_RE = {word: re.compile(pattern) for word, pattern in _IDENTIFYING.items()}


def _identifying(text: str) -> list[tuple[int, int, str]]:
    """Where each piece that may identify the patient begins and ends, and the word for it."""
    found: list[tuple[int, int, str]] = []
    for word, pattern in _IDENTIFYING_RE.items():
        found += [(*piece.span(), word) for piece in pattern.finditer(text)]
        text = pattern.sub(lambda piece: "]" * len(piece[0]), text)  # no piece again; all places stay
    return found


def pieces(
    text: str, words: int = WORDS, overlap: int = OVERLAP, limit: int = LIMIT
) -> tuple[list[str], bool]:
    """Cut a text into overlapping pieces.

    A text of more than `limit` pieces gives its first and its last `limit / 2`: what was found is at the
    beginning of a report, what it means at its end. Time and memory are bounded by `limit`, not by the text.

    Parameters
    ----------
    text : str
        A cleaned text.
    words : int, default 200
        Words in a piece.
    overlap : int, default 40
        Words that two neighbours share, fewer than `words`.
    limit : int, default 64
        Pieces of a text, >= 2.

    Returns
    -------
    pieces : list of str
        Each a part of the text, unchanged; none of a blank text.
    complete : bool
        Whether they cover the whole text.

    Raises
    ------
    InputError
        When words, overlap and limit do not fit together.

    Examples
    --------
    >>> pieces("one two three four five", words=3, overlap=1)
    (['one two three', 'three four five'], True)
    """
    if not 0 <= overlap < words or limit < 2:
        raise InputError(
            f"pieces of {words} words, {overlap} shared, at most {limit}: cannot be; share fewer words than "
            "a piece has, and allow at least two pieces"
        )
    half, complete = limit * words * MEAN_WORD_LENGTH // 2, True
    if len(text) > 2 * half:
        text, complete = f"{text[:half]}\n\n{text[-half:]}", False
    spans = [found.span() for found in re.finditer(rf"\S{{1,{MAX_WORD_LENGTH}}}", text)]
    if not spans:
        return [], True
    starts = list(range(0, max(len(spans) - overlap, 1), words - overlap))
    if len(starts) > limit:
        starts, complete = starts[: (limit + 1) // 2] + starts[-(limit // 2) :], False
    ends = [min(start + words, len(spans)) for start in starts]
    found = [text[spans[a][0] : spans[b - 1][1]] for a, b in zip(starts, ends, strict=True)]
    return found, complete


_DEATH = re.compile(
    r"(?i)\b(expired|deceased|died|dead|passed away|demised?|exitus|autopsy|post-?mortem|time of death|"
    r"verstorben|gestorben|décédée?|deceduta?|fallecid[oa]|falleció|overleden)\b"
)
_NOT_THIS_DEATH = re.compile(  # of kin, of tissue, of what was left out; of what else expires
    r"(?i)\b(father|mother|brother|sister|wife|husband|son|daughter|parents?|family|uncle|aunt|cousin|sibling|"
    r"grand\w+|spouse|partner|friend|child|twin|relatives?|donor|vater|mutter|bruder|schwester|padre|madre|"
    r"dead[\s-]+(space|end|tissue|skin|bowel)|(medication|prescription|consent|order|insurance|licen[cs]e|dose|"
    r"drug|air|gas|breath|volume|tidal|co2)s?\b.{0,30}\bexpired|expired[\s-]+(air|gas|breath|volume|tidal|co2|"
    r"medication|prescription|consent|order|drug)|(not|never|no|nearly|almost|if|would have|risk of|fear)\b"
    r"[^.;]{0,25}\b(died|dead|expired|deceased))"
)


def mentions_death(text: str) -> bool:
    """Whether a sentence of a text says that somebody died who is not kin and whose death is not denied.

    Parameters
    ----------
    text : str
        In any of the languages that are looked for.

    Returns
    -------
    bool
        A hint for a flag: words decide, not their meaning.

    Examples
    --------
    >>> mentions_death("Found unresponsive. Patient expired at 4 am.")
    True
    >>> mentions_death("Her father died of cancer.")
    False
    """
    if not _DEATH.search(text):  # most: the sentences need not be parted
        return False
    parts = re.split(r"(?<=[.;!?])\s|\n", text)
    return any(_DEATH.search(part) and not _NOT_THIS_DEATH.search(part) for part in parts)
