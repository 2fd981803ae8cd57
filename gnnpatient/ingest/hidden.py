"""Codes that give a diagnosis away are hidden; texts that mention a death too early are flagged."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.errors import InputError
from gnnpatient.ingest.ancestors import hierarchy
from gnnpatient.ingest.labels import label_reader
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.patterns import fitting


def flag_early_death_texts(source: SourceTables, labels: Mapping[str, Outcome]) -> None:
    """Flag texts that mention a death and are known before the death that an outcome has.

    Parameters
    ----------
    source : SourceTables
        With the texts that mention a death.
    labels : mapping of str to Outcome
        The labels of each outcome.
    """
    for kind, (patient, known) in source.death_texts.items():
        for name, label in labels.items():
            spec = source.spec.outcomes[name]
            deaths = label_reader(spec).deaths(name, spec, label)
            if deaths is None:
                continue
            dies, when = deaths
            early = dies[patient] & (known < when[patient])
            if early.any():
                source.flag(
                    f"{kind}: {early.sum()} text(s) of {len(np.unique(patient[early]))} patient(s) mention a "
                    f"death, as died, expired, deceased, and are known before it (outcome {name}); when were "
                    "they signed? mask such words",
                    decides=True,
                )


def revealing_codes(spec: GraphSpec, kind: str) -> tuple[str, ...]:
    """The codes of a node type that give some diagnosis away.

    Parameters
    ----------
    spec : GraphSpec
        The spec of the cohort.
    kind : str
        The node type.

    Returns
    -------
    tuple of str
        Patterns, in which * stands for any characters.
    """
    outcomes = spec.outcomes.values()
    return tuple(pattern for one in outcomes for pattern in label_reader(one).revealing(one, kind))


def hide_codes(source: SourceTables, rows: Mapping[str, Rows], *, check: bool = True) -> dict[str, Rows]:
    """The rows without codes that give a diagnosis away.

    Codes are judged as they are in the tables: what `level` makes of them and what lies above them does not
    show them either.

    Parameters
    ----------
    source : SourceTables
        For the spec and for refused rows.
    rows : mapping of str to Rows
        The rows of each node type.
    check : bool, default True
        Whether each pattern must fit a code; a single patient may have none of them.

    Returns
    -------
    dict of str to Rows

    Raises
    ------
    InputError
        When a pattern fits no code and so hides nothing, or another outcome follows codes that are hidden.
    """
    if check:
        _check_hide_patterns(source, rows)
    return {kind: _without_revealing(source, kind, events) for kind, events in rows.items()}


def _check_hide_patterns(source: SourceTables, rows: Mapping[str, Rows]) -> None:
    patterns = [
        (name, pattern)
        for name, outcome in source.spec.outcomes.items()
        for pattern in label_reader(outcome).hide(outcome)
    ]
    if not patterns:
        return
    codes = _all_codes(source, rows)
    for name, pattern in patterns:
        if not any(fitting(codes, [pattern])):
            alike = difflib.get_close_matches(pattern.replace("*", ""), sorted(codes)[:100_000], n=3)
            hint = f"did you mean {' or '.join(map(repr, alike))}?" if alike else "codes there: "
            hint += ", ".join(sorted(codes)[:5]) * (not alike)
            raise InputError(
                f"outcomes.{name}.hide: {pattern!r} fits no code of any node type and hides nothing; {hint}"
            )


def _all_codes(source: SourceTables, rows: Mapping[str, Rows]) -> set[str]:
    """The codes of all node types, those before `level` and ancestors among them."""
    codes = {code for events in rows.values() for code in (*events.codes[1:], *events.narrow_codes)}
    for node in source.spec.nodes.values():
        if node.of is not None and node.hierarchy is not None:
            below = rows[node.of].codes
            codes |= set(hierarchy(source, node.hierarchy, below).ancestors(below)[1])
    return codes


def _without_revealing(source: SourceTables, kind: str, rows: Rows) -> Rows:
    """The rows of a node type that give no diagnosis away."""
    outcomes = source.spec.outcomes
    for name, outcome in outcomes.items():
        patterns = label_reader(outcome).revealing(outcome, kind)
        if not patterns:
            continue
        reveals = rows.fitting(patterns)
        source.refuse(rows.source[reveals], f"hidden: gives {name} away")
        _refuse_hidden_followed(source, kind, rows.only(reveals), name)
        rows = rows.only(~reveals)
    return rows


def _refuse_hidden_followed(source: SourceTables, kind: str, hidden: Rows, name: str) -> None:
    for other, follower in source.spec.outcomes.items():
        followed = label_reader(follower).followed(follower)
        if any(node == kind and hidden.fitting(codes).any() for node, codes in followed):
            raise InputError(f"outcome {other!r} follows codes that outcome {name!r} hides; take one out")
