"""Pieces of a resource; anything may be of the wrong shape and is then not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

REFERENCE = re.compile(r"(?:(.*)/)?([A-Z][A-Za-z]+)/([^/?#|]+)(?:/_history/[^/]*)?")
NOWHERE = "?"  # a reference that leads to no resource, or to two

Element = dict[str, Any]


def as_dict(element: object) -> Element:
    """An object; empty where it is anything else.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    dict
        The element.
    """
    return element if isinstance(element, dict) else {}


def as_dicts(element: object) -> list[Element]:
    """The objects in a list; none where it is anything else.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    list of dict
        Its elements.
    """
    return [one for one in element if isinstance(one, dict)] if isinstance(element, list) else []


def as_list(element: object) -> list[object]:
    """An element that may be alone or in a list, in a list.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    list
        One element or several.
    """
    return element if isinstance(element, list) else [element]


def as_text(element: object) -> str | None:
    """Text without blanks around it.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    str or None
        None where it is no text, or empty.
    """
    return element.strip() or None if isinstance(element, str) else None


def first_of(element: object) -> object:
    """An element that may be alone or the first in a list.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    object
        That element.
    """
    return element[0] if isinstance(element, list) and element else element


def moment_text(resource: Element, fields: Iterable[str], end: str) -> str | None:
    """The first time that is given, as it is written.

    Parameters
    ----------
    resource : dict
        One resource.
    fields : iterable of str
        Where it may be.
    end : str
        Of a Period its `start` or its `end`.

    Returns
    -------
    str or None
        None where none is given.
    """
    for name in fields:
        time = resource.get(name)
        if word := as_text(time.get(end) if isinstance(time, dict) else time):
            return word
    return None


def as_number(element: object) -> float | None:
    """A finite number.

    Parameters
    ----------
    element : object
        Anything that JSON may hold.

    Returns
    -------
    float or None
        None where it is anything else, or not below 1e300.
    """
    if isinstance(element, int | float) and not isinstance(element, bool) and abs(element) < 1e300:
        return float(element)
    return None


def code_of(concept: object) -> str | None:
    """The code of a Coding or of the first of a CodeableConcept, or a code as it stands.

    Parameters
    ----------
    concept : object
        A code, a Coding or a CodeableConcept; None = there is none.

    Returns
    -------
    str or None
        None where it has none.
    """
    if isinstance(concept, str):
        return as_text(concept)
    concept = as_dict(concept)
    return as_text(concept.get("code")) or next(
        (word for coding in as_dicts(concept.get("coding")) if (word := as_text(coding.get("code")))), None
    )


def lower_code(concept: object) -> str | None:
    """The same of a code of FHIR's own, which is in small letters however it is written.

    Parameters
    ----------
    concept : object
        A code, a Coding or a CodeableConcept; None = there is none.

    Returns
    -------
    str or None
        None where it has none.
    """
    word = code_of(concept)
    return None if word is None else word.lower()


def label(concept: object) -> str | None:
    """What a CodeableConcept is called, for people to read.

    Parameters
    ----------
    concept : object
        A code, a Coding or a CodeableConcept; None = there is none.

    Returns
    -------
    str or None
        Its first display, else its text, else its code.
    """
    concept = as_dict(concept)
    displays = (as_text(coding.get("display")) for coding in as_dicts(concept.get("coding")))
    return next(filter(None, displays), None) or as_text(concept.get("text")) or code_of(concept)


def reference(element: object, bundle_urls: Mapping[str, str]) -> str | None:
    """A Reference as Type/id where the Bundle knows it, else as it stands.

    Parameters
    ----------
    element : object
        The Reference.
    bundle_urls : mapping of str to str
        The resources of its Bundle: Type/id by full URL.

    Returns
    -------
    str or None
        None where there is none.
    """
    raw = as_text(as_dict(element).get("reference"))
    return None if raw is None else bundle_urls.get(raw, raw)


def last_step(url: str) -> str:
    """The id at the end of an address.

    Parameters
    ----------
    url : str
        An address.

    Returns
    -------
    str
        What stands behind the last / or :, without a version.

    Examples
    --------
    >>> last_step("https://server/Patient/1/_history/2"), last_step("urn:uuid:0c3151bd")
    ('1', '0c3151bd')
    """
    return re.split(r"[/:]", url.partition("/_history/")[0])[-1]


def one_line(text: str) -> str:
    """Text on one line, without characters that a terminal would obey.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        With one blank between two words.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
