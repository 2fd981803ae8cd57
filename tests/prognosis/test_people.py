"""Who was trained on is told by keyed hashes of ids and records, never by a cohort's name."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest

from gnnpatient import InputError


@pytest.fixture(scope="module")
def held(cohort):
    return np.arange(len(cohort)) % 4 == 0


@pytest.fixture(scope="module")
def people(cohort, held):
    from gnnpatient.prognosis.people import People

    return People.of(cohort, held)


def truth(held):
    return np.where(held, "test", "train").tolist()


def reordered(cohort, order):
    """The same patients in another order, under their own ids: only for cohorts in memory."""
    events = {}
    for kind, e in cohort.events.items():
        size = np.diff(e.ptr)[order]
        ptr = np.concatenate([[0], size.cumsum()])
        rows = np.concatenate([np.arange(e.ptr[i], e.ptr[i + 1]) for i in order])
        columns = {name: column[rows] for name, column in e.columns().items() if name != "ptr"}
        events[kind] = replace(e, ptr=ptr, **columns)
    each = {name: getattr(cohort, name)[order] for name in ("ids", "number", "category", "entry", "group")}
    return replace(cohort, events=events, **each)


def enough(cohort):
    from gnnpatient.prognosis.people import fingerprints

    return fingerprints(cohort, np.arange(len(cohort)))[1]


def test_the_same_cohort_packed_again_is_known(cohort, people, held):
    told = people.split_of(cohort, None, same_name=False)
    assert told.side.tolist() == truth(held) and told.known
    assert (told.by_record, told.by_id, told.strangers) == (0, 0, 0)


def test_ids_dealt_anew_do_not_make_other_people(cohort, people, held):
    """Every id is a patient's of the run, of another one: whoever was trained on is found by the record."""
    order = np.random.default_rng(0).permutation(len(cohort))
    dealt = replace(reordered(cohort, order), ids=cohort.ids)
    told = people.split_of(dealt, None, same_name=True)
    tells = enough(dealt)
    assert 60 < tells.sum() < 80
    right = np.array(truth(held))[order]
    assert (told.side[tells] == right[tells]).all()
    assert "test" not in told.side[~tells & (order != np.arange(80))].tolist()
    assert told.by_record == (tells & (order != np.arange(80))).sum()
    assert told.strangers > 0
    for i in (0, 5):  # one patient as in the whole
        assert people.split_of(dealt, [i], same_name=True).side[0] == told.side[i]


def test_new_ids_and_a_new_name_do_not_either(cohort, people, held):
    renamed = replace(cohort, ids=np.char.add("hospital-", cohort.ids))
    told = people.split_of(renamed, None, same_name=False)
    tells = enough(cohort)
    assert (told.side[tells] == np.array(truth(held))[tells]).all() and told.by_record == tells.sum()
    assert told.side[~tells].tolist() == [None] * int((~tells).sum())


def test_codes_columns_and_levels_are_told_by_name(cohort, people, held):
    """A vocabulary in another order, a level more: what is said of a patient is the same."""
    codes = cohort.codes["lab"]
    turn = np.array([0, *range(len(codes) - 1, 0, -1)])
    lab = cohort.events["lab"]
    events = {**cohort.events, "lab": replace(lab, code=turn[lab.code].astype(np.int32))}
    name = cohort.spec.patient.category[0]
    levels = {**cohort.levels, name: ("AAA", *cohort.levels[name])}
    category = np.where(cohort.category >= 0, cohort.category + 1, -1).astype(np.int32)
    other = replace(
        cohort,
        ids=np.char.add("x", cohort.ids),
        events=events,
        codes={**cohort.codes, "lab": tuple(np.array(codes)[turn].tolist())},
        levels=levels,
        category=category,
        origin=np.arange(80) * 86_400,
    )
    told, tells = people.split_of(other, None, same_name=False), enough(cohort)
    assert (told.side[tells] == np.array(truth(held))[tells]).all()


def test_other_people_under_the_same_ids_are_said(cohort, people, held):
    lab = cohort.events["lab"]
    others = replace(
        cohort, number=cohort.number + 1, events={**cohort.events, "lab": replace(lab, value=lab.value + 1)}
    )
    told = people.split_of(others, None, same_name=False)
    assert not told.known and told.strangers == (~held).sum()
    told = people.split_of(others, None, same_name=True)  # a later export? training is left out all the same
    assert told.side.tolist() == [None if test else "train" for test in held]
    assert told.by_id == (~held).sum() and told.strangers == 0


def test_a_record_that_many_people_have_tells_nobody(cohort, people):
    """Age and sex alone, without rows: no evidence."""
    bare = cohort.only([])
    from gnnpatient.prognosis.people import People, fingerprints

    prints, tells = fingerprints(bare, np.arange(80))
    assert not tells.any() and len(prints) == 80
    own = People.of(bare, np.zeros(80, bool))
    renamed = replace(bare, ids=np.char.add("x", bare.ids))
    assert not own.split_of(renamed, None, same_name=True).known
    number = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)  # five numbers of one's own do
    spec = cohort.spec.patient.model_copy(update={"number": tuple("abcde")})
    wide = replace(bare, number=number, spec=bare.spec.model_copy(update={"patient": spec}))
    assert fingerprints(wide, np.arange(80))[1].all()
    assert not fingerprints(replace(wide, number=np.round(number > 0).astype(np.float32)), np.arange(80))[
        1
    ].any()
    own = People.of(wide, np.zeros(80, bool))
    assert own.split_of(replace(wide, ids=renamed.ids), None, same_name=False).count("train") == 80


def test_any_change_of_a_record_shows(cohort):
    from gnnpatient.prognosis.people import fingerprints

    who = np.arange(80)
    before, lab = fingerprints(cohort, who)[0], cohort.events["lab"]
    mine = int(lab.patient[7])
    for column, step in (("value", 1), ("happened", -1), ("known", 1), ("code", 1)):
        changed = getattr(lab, column).copy()
        changed[7] += step
        after = fingerprints(
            replace(cohort, events={**cohort.events, "lab": replace(lab, **{column: changed})}), who
        )[0]
        assert (after[:, 0] != before[:, 0]).nonzero()[0].tolist() == [mine], column
        assert (after[:, 1] != before[:, 1]).nonzero()[0].tolist() == [mine], column
    number = cohort.number.copy()
    number[3, 0] += 1
    assert (fingerprints(replace(cohort, number=number), who)[0] != before).any(1).nonzero()[0].tolist() == [
        3
    ]
    assert len(np.unique(before, axis=0)) > 70
    assert (fingerprints(cohort, who[5:9])[0] == before[5:9]).all()


def test_the_file_holds_no_id_and_is_private(cohort, people, held, tmp_path):
    from gnnpatient.prognosis.people import People

    people.write(tmp_path / "people.json")
    assert stat.S_IMODE((tmp_path / "people.json").stat().st_mode) == 0o600
    raw = (tmp_path / "people.json").read_bytes()
    assert not any(f'"{one}"'.encode() in raw for one in cohort.ids)
    assert set(json.loads(raw)["ids"]).isdisjoint(People.of(cohort, held).ids)  # another key
    again = People.read(tmp_path / "people.json")
    assert again == people or vars(again) == vars(people)
    (tmp_path / "people.json").write_bytes(raw.replace(b"true", b"false", 1))
    with pytest.raises(InputError, match=r"people\.json: not as fit wrote it; fit again, or take it away"):
        People.read(tmp_path / "people.json")
