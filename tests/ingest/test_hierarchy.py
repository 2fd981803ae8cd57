"""Ancestors and levels, against walks in plain Python."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.errors import InputError

CODES = "abcdefgh"


@st.composite
def acyclic(draw):
    """Pairs in which a parent always comes later in a shuffled alphabet."""
    order = draw(st.permutations(CODES))
    pair = st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda p: p[0] < p[1])
    fewest = draw(st.sampled_from([0, 7, 14]))
    return [(order[i], order[j]) for i, j in draw(st.lists(pair, min_size=fewest, max_size=20))]


def parents(pairs, code):
    return {up for down, up in pairs if down == code}


def above(pairs, code):
    found = set()
    for up in parents(pairs, code):
        found |= {up} | above(pairs, up)
    return found


def depth(pairs, code):
    return 1 + max((depth(pairs, up) for up in parents(pairs, code)), default=0)


ASKED = st.lists(st.sampled_from([*CODES, "unknown"]), max_size=6)


@given(acyclic(), ASKED)
def test_ancestors_are_those_of_a_plain_walk(pairs, codes):
    from gnnpatient.ingest.hierarchy import Hierarchy

    held = Hierarchy.from_pairs([down for down, _ in pairs], [up for _, up in pairs])
    child, names, ancestor = held.ancestors(codes)
    assert child.dtype == ancestor.dtype == np.int64
    assert list(names) == sorted({name for code in codes for name in above(pairs, code)})
    want = [(i, name) for i, code in enumerate(codes) for name in sorted(above(pairs, code))]
    assert [(i, names[j]) for i, j in zip(child, ancestor, strict=True)] == want


@given(acyclic(), ASKED, st.integers(1, 6))
def test_levels_are_those_of_a_plain_walk(pairs, codes, level):
    from gnnpatient.ingest.hierarchy import Hierarchy

    held = Hierarchy.from_pairs([down for down, _ in pairs], [up for _, up in pairs])
    want = [
        code
        if depth(pairs, code) <= level
        else min(up for up in above(pairs, code) if depth(pairs, up) == level)
        for code in codes
    ]
    assert held.level(codes, level) == tuple(want)
    assert held.level(pl.Series(codes, dtype=pl.String), level) == tuple(want)


@given(st.permutations(CODES), st.integers(2, 8))
def test_a_cycle_is_refused_by_name(codes, size):
    from gnnpatient.ingest.hierarchy import Hierarchy

    ring = codes[:size]
    with pytest.raises(
        InputError, match=f"'[{''.join(ring)}]' is its own ancestor, by a cycle of {size} codes"
    ):
        Hierarchy.from_pairs([*ring, "x"], [*ring[1:], ring[0], ring[0]])


def test_an_ancestor_that_two_paths_reach_counts_once():
    from gnnpatient.ingest.hierarchy import Hierarchy

    held = Hierarchy.from_pairs(["a", "b", "a", "d"], ["b", "c", "c", "c"])  # a is under c by two ways
    child, names, ancestor = held.ancestors(["a", "d", "a"])
    assert (child.tolist(), names, ancestor.tolist()) == ([0, 0, 1, 2, 2], ("b", "c"), [0, 1, 1, 0, 1])
    assert held.level(["a", "d"], 2) == ("b", "d")  # by the longest path a is at depth 3


def test_blank_pairs_and_a_code_above_itself_say_nothing():
    from gnnpatient.ingest.hierarchy import Hierarchy

    child = pl.Series(["a", "b", None, "c", "", "d", "a", " e"])
    held = Hierarchy.from_pairs(child, pl.Series(["b", "b", "x", None, "x", "  ", "b", "a"]))
    assert sorted(held.graph.edges) == [(" e", "a"), ("a", "b")]  # a space beside a code is part of it
    assert Hierarchy.from_pairs([], []).ancestors(["a"])[1] == ()
    assert Hierarchy.from_pairs([], []).level(["a"], 1) == ("a",)


def test_a_chain_of_a_hundred_thousand_rows_is_walked_once_a_code():
    """Rows repeat few codes; each row still gets all its pairs."""
    from gnnpatient.ingest.hierarchy import Hierarchy

    names = [f"c{i:03}" for i in range(50)]
    child, above_, ancestor = Hierarchy.from_pairs(names[:-1], names[1:]).ancestors(names * 200)
    assert len(child) == len(ancestor) == 200 * 49 * 50 // 2
    assert above_ == tuple(names[1:])
    assert np.array_equal(np.bincount(child, minlength=100)[50:100], np.arange(49, -1, -1))


@pytest.mark.parametrize(
    ("code", "lengths", "chain"),
    [
        ("A02BC01", "ATC", ["A02BC", "A02B", "A02", "A"]),
        ("A02", "ATC", ["A"]),
        ("A", "ATC", []),
        ("I2510", "ICD", ["I251", "I25"]),
        ("I25.10", "ICD", ["I25.1", "I25"]),
        ("S72.001A", "ICD", ["S72.00", "S72.0", "S72"]),
        ("I25", "ICD", []),
        ("I25.", "ICD", []),
        ("250.02", "ICD", ["250.0", "250"]),
        ("DIAGNOSIS//ICD//10//I2510", "ICD", ["DIAGNOSIS//ICD//10//I251", "DIAGNOSIS//ICD//10//I25"]),
        ("DIAGNOSIS//ICD//9//41.401", "ICD", ["DIAGNOSIS//ICD//9//41.40", "DIAGNOSIS//ICD//9//41.4"]),
        ("v1.5//x.y//I25", "ICD", []),
        ("ICD//", "ICD", []),
    ],
)
def test_prefixes(code, lengths, chain):
    from gnnpatient.ingest import hierarchy

    held = hierarchy.Hierarchy.by_prefix([code, None, code], getattr(hierarchy, lengths))
    assert held.ancestors([code])[1] == tuple(sorted(chain))
    for down, up in zip([code, *chain], chain, strict=False):
        assert list(held.graph.successors(down)) == [up]
    assert code in held.graph
    assert held.level([code], 1) == (chain[-1] if chain else code,)


@given(st.lists(st.text("AB1.", max_size=8), max_size=5), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_prefixes_are_those_of_a_plain_count(bodies, lengths):
    """Cut after the n-th character that is no dot, for each n below the number of those."""
    from gnnpatient.ingest.hierarchy import Hierarchy

    codes = [f"h//{body}" for body in bodies]
    held = Hierarchy.by_prefix(codes, lengths)
    child, names, ancestor = held.ancestors(codes)
    for i, body in enumerate(bodies):
        marks = [place for place, mark in enumerate(body) if mark != "."]
        want = {f"h//{body[: marks[n - 1] + 1]}" for n in lengths if n < len(marks)}
        assert {names[j] for j in ancestor[child == i]} == want


def test_codes_that_meet_share_their_ancestor():
    from gnnpatient.ingest.hierarchy import ICD, Hierarchy

    codes = ["I25.10", "I25.11", "I21.4", "E11"]
    held = Hierarchy.by_prefix(pl.Series(codes), ICD)
    assert held.level(codes, 1) == ("I25", "I25", "I21", "E11")
    assert held.level(codes, 2) == ("I25.1", "I25.1", "I21.4", "E11")


def test_what_cannot_be_meant_is_refused():
    from gnnpatient.ingest.hierarchy import Hierarchy

    with pytest.raises(InputError, match="give two text columns"):
        Hierarchy.from_pairs(["a"], ["b", "c"])
    with pytest.raises(InputError, match="give two text columns"):
        Hierarchy.from_pairs(pl.Series([1]), pl.Series(["b"]))
    with pytest.raises(InputError, match=r"lengths \(0, 3\); must be numbers of characters >= 1"):
        Hierarchy.by_prefix(["a"], (0, 3))
    with pytest.raises(InputError, match="level 0; must be >= 1, the level of codes without a parent"):
        Hierarchy.by_prefix(["a"], (1,)).level(["a"], 0)


def test_networkx_is_loaded_when_it_is_used():
    code = "import sys, gnnpatient.ingest.hierarchy; assert 'networkx' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
