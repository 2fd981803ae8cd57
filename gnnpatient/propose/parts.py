"""The parts of a draft, and the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gnnpatient.readers.frames import Frames


def plain(name: str) -> str:
    """A name in the form in which names are compared: lower case letters and digits only.

    Parameters
    ----------
    name : str
        Name of a column, a code or a file.

    Returns
    -------
    str

    Examples
    --------
    >>> plain("Subject ID")
    'subjectid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def slug(words: str, fallback: str) -> str:
    """A text as the name of a node type, a cause or an outcome.

    Parameters
    ----------
    words : str
        Any text.
    fallback : str
        Put in front where the text does not begin with a letter.

    Returns
    -------
    str
        Not one of the reserved names.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", words).strip("_-").lower()[:40]
    name = name if re.match(r"[a-z]", name) else f"{fallback}_{name}".rstrip("_")
    return f"{name}_" if name in ("patient", "timepoint", "censored", "event_free") else name


def unused_name(names: Iterable[str], wanted: str) -> str:
    """A name that is not used yet: the wanted one, or that with the first free number behind it.

    Parameters
    ----------
    names : iterable of str
        The names in use.
    wanted : str
        The name to begin with.

    Returns
    -------
    str
    """
    more = (f"{wanted}{i}" for i in range(2, 10_000))
    return next(name for name in (wanted, *more) if name not in names)


def quoted(words: str) -> str:
    """A string as TOML: the escapes of JSON, and that of DEL.

    Parameters
    ----------
    words : str
        Any text.

    Returns
    -------
    str
    """
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def bare(name: str) -> str:
    """A key as TOML, quoted only where it has to be.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


@dataclass
class Block:
    """One table of the TOML.

    Attributes
    ----------
    notes : list of str
        Comments above it.
    keys : dict
        Its keys; empty values are not written.
    """

    notes: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass
class Draft:
    """The parts of a spec in the order in which they are written.

    Attributes
    ----------
    place : Path or Frames
        The folder with the tables, or frames in memory.
    notes : list of str
        Comments at the top.
    data_format : str
        ``"meds"``, ``"omop"``, ``"fhir"``, or ``""``.
    tables : dict of str to Block
        [tables] by file.
    patient : Block
        [patient].
    of_stays : bool
        A patient is a stay in a hospital.
    every : str
        Width of a timepoint.
    units : dict of str to (str, dict)
        [units] by code: the comment, and the keys (none for a question alone).
    nodes, outcomes : dict of str to Block
        [nodes] and [outcomes] by name.
    questions : list of str
        What is asked about columns that are in no block.
    left_out : list of str
        Tables and columns that are not in the draft, and why.
    lost : dict of str to str
        By table of rows in time without one that is known: what its owner may do.
    """

    place: Path | Frames
    notes: list[str] = field(default_factory=list)
    data_format: str = ""
    tables: dict[str, Block] = field(default_factory=dict)
    patient: Block = field(default_factory=Block)
    of_stays: bool = False
    every: str = "1d"
    units: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    nodes: dict[str, Block] = field(default_factory=dict)
    outcomes: dict[str, Block] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)

    @cached_property
    def readme(self) -> str:
        """The README beside the tables, or up to two folders above them; frames have none."""
        if isinstance(self.place, Frames):
            return ""
        here = self.place.resolve()
        for place in (here, here.parent, here.parent.parent):
            for path in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
                if path.is_file():
                    return path.read_text(encoding="utf-8", errors="replace")[:100_000]
        return ""

    def leave_out(self, where: str, why: Mapping[str, str]) -> None:
        """List columns that are not in the draft, by reason.

        Parameters
        ----------
        where : str
            The table.
        why : mapping of str to str
            By column, the reason; the column ``""`` is the table as a whole.
        """
        for reason in dict.fromkeys(why.values()):
            names = ", ".join(name for name, of in why.items() if of == reason)
            self.left_out.append(f"{where}: {names}: {reason}" if names else f"{where}: {reason}")

    def node(self, kind: str, keys: Mapping[str, Any], *notes: str) -> None:
        """Add a node type.

        Parameters
        ----------
        kind : str
            Its name; a number is added where it is in use.
        keys : mapping
            Keys of the TOML.
        *notes : str
            Comments above it.
        """
        self.nodes[unused_name(self.nodes, kind)] = Block(list(notes), dict(keys))

    def outcome(self, name: str, ask: str, keys: Mapping[str, Any], *notes: str) -> None:
        """Add an outcome.

        Parameters
        ----------
        name : str
            Its name.
        ask : str
            The question to the owner of the data.
        keys : mapping
            Keys of the TOML.
        *notes : str
            Comments above it.
        """
        self.outcomes[name] = Block([*notes, f"ASK: outcomes.{name}: {ask}"], dict(keys))
