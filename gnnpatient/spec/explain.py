"""An error of pydantic as one line: where, what was found, what to do."""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from gnnpatient.errors import near

_DURATIONS = ("every", "window", "horizon", "gap")  # keys that hold one, where a number is written first


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error of pydantic as one line: the key, what was found there, and what to do.

    Unknown keys come first, since they often cause the other errors.

    Parameters
    ----------
    error : ValidationError
        Raised by the validation of `model`.
    model : type of BaseModel
        The record of the whole file.

    Returns
    -------
    str
    """
    errors = error.errors()
    extra = [e for e in errors if e["type"] == "extra_forbidden"]
    unknown = (e for e in extra if e["loc"][-1] not in _known(model, _without_tags(model, e["loc"])[:-1]))
    first = next(unknown, (extra or errors)[0])
    where = _without_tags(model, first["loc"])
    place = ".".join(map(str, where)) or "top level"
    if where and where[-1] == "[key]":  # of a dictionary in Python; a TOML has no other keys than text
        above, key = ".".join(map(str, where[:-1])), first["input"]
        return f"{above}: key {key!r} is not text; write {str(key)!r}"
    match first["type"]:
        case "extra_forbidden":
            above = ".".join(map(str, where[:-1])) or "top level"
            key, known = str(where[-1]), _known(model, where[:-1])
            if key in known:  # of an outcome of another kind
                return f"{above}: {key} belongs to another kind than this one; remove it, or change kind"
            return f"{above}: unknown key {key!r}{near(key, known)}"
        case "missing":
            return f"{place}: this key is needed"
        case "union_tag_not_found":
            return f"{place}.kind: this key is needed"
        case "union_tag_invalid":
            kinds = re.findall(r"'(\w+)'", first["ctx"]["expected_tags"])
            return f"{place}.kind: unknown {first['ctx']['tag']!r}{near(first['ctx']['tag'], kinds)}"
        case "string_type" if where[-1] in _DURATIONS and not isinstance(first["input"], list | dict):
            return f"{place}: must be a duration in quotes, as in '30d', not {first['input']!r}"
        case "dict_type":
            return f"{place}: must be a table, {{ NAME = ... }}, not {first['input']!r}"
        case "value_error":
            return f"{place}: {first['ctx']['error']}" if where else str(first["ctx"]["error"])
    return f"{place}: {first['msg'].replace('valid tuple', 'list')}, not {first['input']!r}"


def _without_tags(model: Any, loc: tuple[int | str, ...]) -> list[int | str]:
    """The path of a key as in the TOML, without the tags that pydantic adds for the member of a union."""
    way: list[int | str] = []
    forms = [model]
    for step in loc:
        if isinstance(step, int):  # of a list
            forms = [m for form in forms for m in _members(form)] or forms
            continue
        inner = [m for form in forms for m in _step(form, step)]
        if inner or not any(_is_form(form, step) for form in forms):
            way.append(step)
            forms = inner
        else:
            forms = [form for form in forms if _is_form(form, step)]
    return way


def _forms(annotation: Any) -> list[Any]:
    """The types that an annotation allows: members of a union, without None and without metadata."""
    if typing.get_origin(annotation) is Annotated:
        return _forms(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [form for a in typing.get_args(annotation) for form in _forms(a) if form is not type(None)]
    return [annotation]


def _members(form: Any) -> list[Any]:
    """The types that the items of a list may have."""
    return _forms(typing.get_args(form)[0]) if typing.get_origin(form) is tuple else []


def _is_form(form: Any, step: int | str) -> bool:
    kind = form.model_fields.get("kind") if hasattr(form, "model_fields") else None
    return step in (getattr(form, "__name__", ""), *typing.get_args(kind.annotation if kind else None))


def _step(form: Any, step: int | str) -> list[Any]:
    """The types below a key of a record or table; none where it has no such key."""
    if typing.get_origin(form) is dict:
        return _forms(typing.get_args(form)[1])
    if not hasattr(form, "model_fields"):
        return []
    fields = {field.alias or name: field for name, field in form.model_fields.items()}
    return _forms(fields[str(step)].annotation) if str(step) in fields else []


def _known(model: Any, where: list[int | str]) -> tuple[str, ...]:
    """The keys that a model allows at a path."""
    forms = [model]
    for step in where:
        forms = [inner for form in forms for inner in _step(form, step)]
        forms = [one for form in forms for one in _members(form) or [form]]
    fields = (item for form in forms if hasattr(form, "model_fields") for item in form.model_fields.items())
    return tuple(dict.fromkeys(field.alias or name for name, field in fields))
