"""Files of JSON: what is read of them, and what a damaged one is refused for."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gnnpatient.errors import InputError
from gnnpatient.readers.database import first_line
from gnnpatient.readers.fhir.elements import Element

MAX_DOCUMENT = 2 << 30  # bytes of one JSON document; a line of a bulk export is one
MAX_LINE = 256 << 20


def json_suffix(path: Path) -> str | None:
    """What a file holds, by its name.

    Parameters
    ----------
    path : Path
        The file, which may be packed.

    Returns
    -------
    str or None
        `.json` (one document), `.ndjson` (a resource a line), or None: neither.

    Examples
    --------
    >>> json_suffix(Path("Patient.NDJSON.gz")), json_suffix(Path("bundle.json")), json_suffix(Path("a.csv"))
    ('.ndjson', '.json', None)
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".ndjson", ".jsonl")):
        return ".ndjson"
    return ".json" if name.endswith(".json") else None


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """What a damaged file raises, as an `InputError` that names it.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    None
        Once.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); copy it again") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep for FHIR") from None
    except NotJson as error:
        raise InputError(f"{path}: {error}") from None


def _open_bytes(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


class NotJson(ValueError):
    """Why a text cannot be read."""


def _constant(word: str) -> NoReturn:
    raise NotJson(f"not JSON: {word} is no number")


_decode = json.JSONDecoder(parse_constant=_constant).decode


def parse_json(data: bytes) -> Any:
    """The JSON of one document.

    Parameters
    ----------
    data : bytes
        UTF-8.

    Returns
    -------
    object
        As `json.loads` gives it.

    Raises
    ------
    NotJson
        With the place where it ends to be JSON.
    """
    try:
        return _decode(str(data, "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        hint = "name it .ndjson if each line is a resource" if error.msg == "Extra data" else "is it cut?"
        place = f"line {error.lineno}, column {error.colno}"
        raise NotJson(f"not JSON at {place} ({error.msg}); {hint}") from None
    except RecursionError:
        raise NotJson("nested too deep for FHIR; is it a Bundle or a resource?") from None
    except NotJson:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise NotJson(f"not JSON: {str(error).partition(';')[0]}") from None


def read_document(path: Path) -> Element:
    """The one resource of a file.

    Parameters
    ----------
    path : Path
        The file, packed or not.

    Returns
    -------
    dict
        The resource.

    Raises
    ------
    InputError
        If it is too large, or no resource.
    NotJson
        If it is no JSON.
    """
    chunks, size = [], path.stat().st_size
    with _open_bytes(path) as handle:
        while size <= MAX_DOCUMENT and (chunk := handle.read(1 << 20)):
            chunks.append(chunk)
            size = max(size, len(chunks) << 20)  # what a .gz unfolds to
    if size > MAX_DOCUMENT:
        raise InputError(f"{path}: over {MAX_DOCUMENT >> 30} GB; split the Bundle, or export it as .ndjson")
    found = parse_json(b"".join(chunks))
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        raise InputError(f"{path}: not a FHIR resource, there is no resourceType; move it elsewhere")
    return found


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a bulk export that hold anything, with their numbers from 1 on.

    Parameters
    ----------
    path : Path
        The file, packed or not.

    Yields
    ------
    number : int
        Of the line.
    line : bytes
        What it holds.

    Raises
    ------
    InputError
        If a line is too long.
    """
    with _open_bytes(path) as handle:
        number = 0
        while line := handle.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise InputError(
                    f"{path}: line {number} is over {MAX_LINE >> 20} MB; split the file by lines"
                )
            if line.strip():
                yield number, line
