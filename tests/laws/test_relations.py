"""Relations that are read off the columns, by hand: first, during, and the series of tracked objects.

Each is held against the slow oracle in test_graphs.py, too.
"""

import numpy as np
import polars as pl
import pytest
import torch

TOML = """
cohort = "c"
[patient]
table = "p.csv"
key = "pid"
[nodes.lesion]
table = "lesion.csv"
time = "day"
known = "known"
code = "code"
value = "mm"
track = "lesion"
[nodes.drug]
table = "drug.csv"
time = "day"
until = "stop"
code = "drug"
value = "dose"
"""
# patient b has a row of each; the graphs are those of patient a
LESIONS = "pid,day,known,code,mm,lesion\nb,0,0,size,5,SECRET-7\n"
DRUGS = "pid,day,stop,drug,dose\nb,0,,A,1\n"


@pytest.fixture
def read(tmp_path):
    from gnnpatient import read_cohort

    def make(lesions: str = "", drugs: str = "", toml: str = TOML):
        (tmp_path / "c.toml").write_text(toml)
        (tmp_path / "p.csv").write_text("pid\na\nb\n")
        (tmp_path / "lesion.csv").write_text(LESIONS + lesions)
        (tmp_path / "drug.csv").write_text(DRUGS + drugs)
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return make


def graph(cohort, at: float):
    from gnnpatient import build_graphs

    return build_graphs(cohort.at(at, patient="a"))


def edges(graphs, *edge_type: str) -> list[tuple[float, ...]]:
    """Day of the source, day of the target, attributes; nan as None."""
    source, target = (graphs[edge_type[i]] for i in (0, 2))
    at = float(graphs.statics.at[0])
    rows = zip(*graphs.edges[edge_type], graphs.edge_attributes[edge_type], strict=True)
    return sorted(
        (at - source.age[i].item(), at - target.age[j].item(), *(None if x != x else x for x in n.tolist()))
        for i, j, n in rows
    )


def test_first_and_same_follow_the_object(read):
    rows = [(0, 5, "right"), (1, 20, "left"), (3, 9, "right"), (4, 21, "left"), (6, 4, "right")]
    rows += [(7, "", "left"), (8, 3, "")]
    cohort = read("".join(f"a,{day},{day},size,{mm},{of}\n" for day, mm, of in rows))
    graphs = graph(cohort, 9)
    assert graphs["lesion"].track.tolist() == [0, 1, 0, 1, 0, 1, -1]
    assert edges(graphs, "lesion", "same", "lesion") == [
        (0, 3, 4, 3),
        (1, 4, 1, 3),
        (3, 6, -5, 3),
        (4, 7, None, 3),
    ]
    assert edges(graphs, "lesion", "first", "lesion") == [
        (0, 3, 4, 3),
        (0, 6, -1, 6),
        (1, 4, 1, 3),
        (1, 7, None, 6),
    ]
    assert [gap for *_, gap in edges(graphs, "lesion", "next", "lesion")] == [1, 2, 1, 2, 1, 1]
    untracked = graph(
        read(
            "a,0,0,size,5,1\na,1,1,size,20,2\na,3,3,size,9,1\n", toml=TOML.replace('track = "lesion"\n', "")
        ),
        9,
    )
    assert edges(untracked, "lesion", "same", "lesion") == [(0, 1, 15, 1), (1, 3, -11, 2)]
    assert untracked["lesion"].track.tolist() == [-1, -1, -1]


def test_no_id_of_an_object_is_kept(read, tmp_path):
    cohort = read("a,0,0,size,5,SECRET-9\n")
    cohort.save(tmp_path / "out")
    assert all(b"SECRET" not in file.read_bytes() for file in (tmp_path / "out").iterdir())
    from gnnpatient import open_cohort

    back = open_cohort(tmp_path / "out")
    assert back.events["lesion"].track.tolist() == cohort.events["lesion"].track.tolist() == [0, 0]
    assert back.events["drug"].track is None  # as in a cohort that was packed before there were objects


def test_the_number_of_an_object_does_not_depend_on_what_comes_later(read):
    one, more = "a,0,0,size,5,m\na,0,0,size,5,k\na,1,1,size,6,m\n", "a,2,2,size,1,a\na,-1,3,size,1,b\n"
    early, late = (graph(read(text), 1.5)["lesion"].track.tolist() for text in (one, one + more))
    assert early == late == [0, 1, 1]  # k before m: the rows are equal but for it
    assert graph(read(one + more), 5)["lesion"].track.tolist() == [
        0,
        1,
        1,
        2,
        3,
    ]  # in the order they became known


def test_during_finds_what_was_running_when_a_row_happened(read):
    rows = "".join(f"a,{day},{day},size,1,\n" for day in (0, 1, 3, 6))
    cohort = read(rows, "a,0.5,5,A,10\na,2,2.5,A,20\na,1,3,B,\na,4,,B,7\n")
    found = edges(graph(cohort, 9), "drug", "during", "lesion")
    # on day 3 the second A is over, but the first still runs; the first B has just ended
    assert found == [(0.5, 1, 0.5, 10), (0.5, 3, 2.5, 10), (1, 1, 0, None), (4, 6, 2, 7)]
    # a drug may be given during another one, of its own code, too; never during itself
    assert edges(graph(cohort, 9), "drug", "during", "drug") == [
        (0.5, 1, 0.5, 10), (0.5, 2, 1.5, 10), (0.5, 4, 3.5, 10), (1, 2, 1, None)
    ]  # fmt: skip
    assert graph(cohort, 9)["drug"].duration.tolist() == [4.5, 2, 0.5, 5]  # the last one still runs
    assert graph(cohort, 2.25)["drug"].duration.tolist() == [1.75, 1.25, 0.25]


def test_a_row_has_one_edge_a_code_that_was_running(read):
    drugs = "".join(f"a,{day / 10},{day / 10 + 5},{code},{day}\n" for day in range(30) for code in "AB")
    graphs = graph(read("a,3,3,size,1,\na,7.5,7.5,size,1,\na,9,9,size,1,\n", drugs), 10)
    found = [[round(x, 3) for x in edge] for edge in edges(graphs, "drug", "during", "lesion")]
    assert found == [[2.9, 3, 0.1, 29]] * 2 + [[2.9, 7.5, 4.6, 29]] * 2
    itself = graphs.edges["drug", "during", "drug"]
    assert (itself[0] != itself[1]).all() and len(set(map(tuple, itself.T.tolist()))) == itself.shape[1]


@pytest.mark.parametrize("ends", [("8", "9"), ("9", "8"), ("", "8"), ("", "")])
def test_an_end_that_is_still_to_come_changes_nothing(read, ends):
    """Of two that run at the landmark neither is known to end first, so the one that began last is named."""
    drugs = [f"a,0,{end},A,1\na,1,{other},A,2\n" for end, other in (ends, ("70", "80"))]
    one, two = (graph(read("a,3,3,size,1,\n", text), 5) for text in drugs)
    assert edges(one, "drug", "during", "lesion") == [(1, 3, 2, 2)]
    assert edges(one, "drug", "during", "drug") == [(0, 1, 1, 1)]
    for edge_type, edge in one.edges.items():
        assert torch.equal(edge, two.edges[edge_type])
        assert torch.equal(one.edge_attributes[edge_type], two.edge_attributes[edge_type])
    assert one["drug"].duration.tolist() == two["drug"].duration.tolist() == [5, 4]
    assert one["drug"].open.tolist() == [True, True]


def test_what_edges_says_of_the_columns_changes_nothing(read):
    from gnnpatient import read_spec

    plain = read("a,0,0,size,1,\n").spec
    for relations in ('["at"]', '["at", "next"]', '["same", "at", "next"]'):
        named = read(
            "a,0,0,size,1,\n", toml=TOML.replace('track = "lesion"', f'track = "lesion"\nedges = {relations}')
        ).spec
        assert named.edge_types == plain.edge_types
    assert plain.edge_types[::2] == (
        ("lesion", "at", "timepoint"), *(("lesion", name, "lesion") for name in ("next", "same", "first")),
        ("drug", "at", "timepoint"), *(("drug", name, "drug") for name in ("next", "same", "first")),
        ("drug", "during", "lesion"), ("drug", "during", "drug"),
        ("timepoint", "of", "patient"), ("timepoint", "next", "timepoint"),
    )  # fmt: skip
    # the hash of a spec is what it was before there were relations without a name
    assert read_spec("pbc").hash == "4617c72fdc13b5a45e855803a30a41b1b0ad1db069f8010fceea6bec5ab500e4"


def test_relations_grow_with_the_rows():
    """400 rows of one moment, before and after single ones: at most four edges a row in each relation."""
    from gnnpatient.cohort.build import Groups

    for sizes in ((400, 400), (400, 1, 1, 1), (1, 400, 1), (5, 3, 400), (4, 400), (1,) * 400):
        happened = np.repeat(np.arange(len(sizes)), sizes)
        groups = Groups.of(np.zeros(len(happened), np.int64), moment=happened)
        for source, target in (groups.following(), groups.from_first()):
            assert (happened[source] < happened[target]).all() and len(source) <= 4 * len(happened)
            assert set(target) == set(range(sizes[0], len(happened)))  # each later row has one
            assert len(set(zip(source.tolist(), target.tolist(), strict=True))) == len(source)


def test_edges_of_intervals_are_estimated_before_they_are_allocated(read, monkeypatch):
    from gnnpatient import InputError, files

    drugs = "".join(f"a,0,,{code},1\n" for code in range(200))
    cohort = read("".join(f"a,{1 + i / 4096},{1 + i / 4096},size,{i},\n" for i in range(4096)), drugs)
    found = graph(cohort, 9).edges["drug", "during", "lesion"]
    assert found.shape[1] == 200 * 4096  # every pair is one: that many are running
    monkeypatch.setattr(files, "MAX_UNCHECKED_BYTES", 0)
    monkeypatch.setattr(files, "free_memory", lambda: 20_000_000)  # enough for the rows
    with pytest.raises(
        InputError, match=r"819200 edges of what happened during intervals: takes about .* are free"
    ):
        graph(cohort, 9)


def test_what_a_row_is_of_and_how_long_it_lasted_stay_with_it(read):
    """Through names that are merged, node types alone, another device, PyG, and one graph a landmark."""
    from gnnpatient import build_graphs
    from gnnpatient.graphs import frequent

    cohort = read("a,0,0,size,5,x\na,1,1,size,20,y\na,3,3,size,9,x\n", "a,1,4,A,2\n")
    graphs = graph(cohort, 9)
    merged = frequent(graphs, 2).merge(graphs)  # nobody has a code that two patients have
    assert merged["lesion"].code.tolist() == [0, 0, 0] and merged["lesion"].value.isnan().all()
    alone = build_graphs(cohort.only(["lesion", "drug"]).at(9, patient="a"))
    for other in (merged, alone, graphs.to("cpu"), graphs.hetero_data()):
        assert other["lesion"].track.tolist() == [0, 1, 0] and other["drug"].duration.tolist() == [3]
        assert other["lesion"].duration.tolist() == [0, 0, 0] and other["drug"].track.tolist() == [-1]
    same = "lesion", "same", "lesion"
    assert (
        graphs.edge_attributes[same].tolist() == graphs.to("cpu").edge_attributes[same].tolist() == [[4, 3]]
    )
    assert merged.edge_attributes[same][:, 0].isnan().all()  # a value that is hidden is in no number, either
    (one,) = cohort.at(9, patient="a").hetero_data()
    assert one[same].edge_attr.tolist() == [[4, 3]] and one["drug"].x[0, -1] == 3


def test_columns_of_any_order_give_the_same_objects(read):
    columns = {"day": [1, 2, 1, 2], "known": [1, 2, 1, 2], "mm": [1, 2, 3, 4], "lesion": [12, 12, 7, 7]}
    frame = pl.DataFrame(columns).select(
        pl.lit("a"), "day", "known", pl.lit("size").alias("code"), "mm", "lesion"
    )
    numbers = []
    for seed in range(3):
        rows = frame.sample(fraction=1, shuffle=True, seed=seed).write_csv(include_header=False)
        nodes = graph(read(rows), 9)["lesion"]
        numbers.append(list(zip(nodes.value.tolist(), nodes.track.tolist(), strict=True)))
    assert numbers == [[(1, 0), (3, 1), (2, 0), (4, 1)]] * 3


@pytest.mark.parametrize("late", ["7", "1e9", ""])
def test_a_change_reads_no_row_that_is_not_yet_known(read, late):
    """A result of day 1 that comes on day 3 lies between two others, which are neighbours until then."""
    cohort = read(f"a,0,0,size,1,m\na,2,2,size,4,m\na,1,3,size,{late},m\n")
    for at in (2, 2.99):
        graphs = graph(cohort, at)
        for relation in ("same", "first"):
            names = graphs.attribute_names["lesion", relation, "lesion"]
            found = edges(graphs, "lesion", relation, "lesion")
            assert names == ("change", "gap") and [numbers for _, _, *numbers in found] == [[3, 2]]
    to, on = (None, None) if not late else np.float32([float(late) - 1, 4 - float(late)]).tolist()
    assert edges(graph(cohort, 3), "lesion", "same", "lesion") == [(0, 1, to, 1), (1, 2, on, 1)]
