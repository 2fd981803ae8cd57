"""The parts of a draft, and the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


def plain(name: str) -> str:
    """A name as it is compared: in lower case, without signs.

    >>> plain("Subject ID")
    'subjectid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def slug(words: str, fallback: str) -> str:
    """As the name of a kind, a cause or an outcome."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", words).strip("_-").lower()[:40]
    name = name if re.match(r"[a-z]", name) else f"{fallback}_{name}".rstrip("_")
    return f"{name}_" if name in ("patient", "timepoint", "censored", "event_free") else name


def unused_name(names: Iterable[str], wanted: str) -> str:
    """The name, or the name with the first number that makes it free."""
    more = (f"{wanted}{i}" for i in range(2, 10_000))
    return next(name for name in (wanted, *more) if name not in names)


def quoted(words: str) -> str:
    """A string as TOML: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def bare(name: str) -> str:
    """A key as TOML, quoted only where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


@dataclass
class Block:
    """One table of the TOML: what is said above it, and its keys; empty ones are not written."""

    notes: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass
class Draft:
    """The parts in the order in which they are written."""

    folder: Path
    notes: list[str] = field(default_factory=list)
    data_format: str = ""
    tables: dict[str, Block] = field(default_factory=dict)
    patient: Block = field(default_factory=Block)
    every: str = "1d"
    units: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # code: what is said, its keys
    nodes: dict[str, Block] = field(default_factory=dict)
    outcomes: dict[str, Block] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # what is not in it, and why

    @cached_property
    def readme(self) -> str:
        """What stands beside the tables, or up to two folders above them."""
        here = self.folder.resolve()
        for place in (here, here.parent, here.parent.parent):
            for path in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
                if path.is_file():
                    return path.read_text(encoding="utf-8", errors="replace")[:100_000]
        return ""

    def leave_out(self, where: str, why: Mapping[str, str]) -> None:
        """What is left out of a table, by reason; "" stands for the table as a whole."""
        for reason in dict.fromkeys(why.values()):
            names = ", ".join(name for name, of in why.items() if of == reason)
            self.left_out.append(f"{where}: {names}: {reason}" if names else f"{where}: {reason}")

    def node(self, kind: str, keys: Mapping[str, Any], *notes: str) -> None:
        self.nodes[unused_name(self.nodes, kind)] = Block(list(notes), dict(keys))

    def outcome(self, name: str, ask: str, keys: Mapping[str, Any], *notes: str) -> None:
        self.outcomes[name] = Block([*notes, f"ASK: outcomes.{name}: {ask}"], dict(keys))
