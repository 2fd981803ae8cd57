"""Who a model was trained on: keyed hashes of ids and of records, in a private file of the run.

A cohort's name does not tell: ids may be dealt anew, the cohort packed again, or another hospital's be called
the same. The key is random and lies beside the hashes, so the file is as private as the split itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, file_hash, is_sealed, sealed
from gnnpatient.prognosis.checkpoint import read_config

FORMAT = 2  # of a run
PEOPLE_FILE = "people.json"
MIN_RECORD_ROWS, MIN_RECORD_VALUES = (
    3,
    5,
)  # a record with fewer rows, and fewer different numbers among its statics, is many people's
HASH_BYTES = 16  # bytes of a hash that are kept
TRAIN, TEST, UNKNOWN = "train", "test", None


@dataclass(frozen=True, eq=False)
class SplitMembership:
    """What a run knows of the patients of a cohort."""

    side: np.ndarray  # (patient,) "train", "test" or None where unknown
    exact: bool  # it is the very cohort of the run
    by_record: int = 0  # patients told by their record alone: they may be the same person under another id
    by_id: int = 0  # told by their id alone: its record is another one than at the fit
    strangers: int = 0  # who have an id of a training patient, and are not taken for that one

    def to_dict(self) -> dict[str, Any]:
        """Counts for JSON: nobody is named."""
        return {
            **{name: self.count(name) for name in (TRAIN, TEST)},
            "unknown": self.count(UNKNOWN),
            **{name: value for name, value in vars(self).items() if name != "side"},
        }

    def count(self, side: str | None) -> int:
        return sum(one == side for one in self.side)

    @property
    def known(self) -> bool:
        """Whether anybody is a patient of the run."""
        return any(one is not None for one in self.side)


@dataclass(frozen=True, eq=False)
class People:
    """The people of a run as keyed hashes: who is recognised only with the key."""

    key: bytes
    ids: tuple[str, ...]
    records: tuple[str, ...]
    train: tuple[bool, ...]
    model: str | None = None  # digest of the model that was fitted on them

    @classmethod
    def of(cls, cohort: Cohort, test: np.ndarray) -> People:
        """All patients of a cohort, `test` (patient,) bool of them held out; in no order of theirs."""
        key = secrets.token_bytes(32)
        found = _hashes(key, cohort, None)[:2]
        every = sorted(zip(*found, (~test).tolist(), strict=True))
        ids, records, train = zip(*every, strict=True)
        return cls(key, ids, records, train)

    def write(self, path: Path) -> None:
        content: dict[str, Any] = {"key": self.key.hex(), "model": self.model}
        content |= {"ids": self.ids, "records": self.records, "train": self.train}
        with atomic_file(path, private=True) as part:
            part.write_text(sealed(content), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> People:
        raw = path.read_bytes()
        try:
            content = json.loads(raw) if is_sealed(raw) else {}
            ids, records, train = (tuple(content[name]) for name in ("ids", "records", "train"))
            return cls(bytes.fromhex(content["key"]), ids, records, train, content["model"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: not as fit wrote it; fit again, or take it away: then nobody is known by it"
            ) from None

    def with_model(self, digest: str) -> People:
        return replace(self, model=digest)

    def split_of(self, cohort: Cohort, patients: Sequence[int] | None, *, same_name: bool) -> SplitMembership:
        """Recognise the patients of a cohort, or some of them (positions).

        A record that is a training patient's is that one's, or may be, whatever its id. An id alone, with
        another record, is believed for training where the cohorts have one name, since a later export has
        more rows; never for held out.
        """
        ids, records, identifies = _hashes(self.key, cohort, patients)
        positions = {one: place for place, one in enumerate(self.ids)}
        trained = {r for r, train in zip(self.records, self.train, strict=True) if train}
        test_records = set(self.records) - trained
        side: list[str | None] = []
        by_record = by_id = strangers = 0
        for one, record, identifying in zip(ids, records, identifies, strict=True):
            place = positions.get(one)
            as_trained = place is not None and self.train[place]
            if place is not None and self.records[place] == record:
                side.append(TRAIN if as_trained else TEST)
                continue
            if identifying and (record in trained or record in test_records):
                side.append(TRAIN if record in trained else TEST)
                by_record += 1
            else:
                side.append(TRAIN if as_trained and same_name else UNKNOWN)
                by_id += side[-1] is not None
            strangers += as_trained and side[-1] != TRAIN
        return SplitMembership(np.array(side, object), False, by_record, by_id, strangers)


def read_run(folder: str | Path) -> tuple[Path, dict[str, Any], dict[str, list[str]]]:
    """RUN, or that of RUN/model; what its run.json says, and its split.json: ids of "train" and "test"."""
    path = Path(folder)
    if not (path / "run.json").is_file() and path.name == "model":
        path = path.parent
    try:
        raw = (path / "run.json").read_bytes()
        about, split = json.loads(raw), json.loads((path / "split.json").read_bytes())
        if about["format"] != FORMAT:
            raise InputError(f"{path}: a run of another version; fit it again")
        both = len(set(split["train"]) & set(split["test"]))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: not a run (it holds no run.json and split.json); make one with gnnpatient fit"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: run.json or split.json cannot be read; fit it again") from None
    if both:
        raise InputError(f"{path}/split.json: {both} patient(s) in training and in test; fit it again")
    if not is_sealed(raw) or file_hash(path / "split.json") != about.get("split"):
        raise InputError(f"{path}: run.json and split.json are not as fit wrote them; fit it again")
    return path, about, split


def split_of(folder: str | Path, cohort: Cohort, patients: Sequence[int] | None = None) -> SplitMembership:
    """Which patients of a cohort, or which of some of them (positions), a run was trained on or held out.

    In the very cohort of the run by their ids; elsewhere by id and record, never by the cohort's name. Where
    the file of people was taken away, the ids of training are believed in a cohort of the same name.
    """
    path, about, split = read_run(folder)
    ids = cohort.ids if patients is None else cohort.ids[np.asarray(patients, np.int64)]
    trained = np.isin(ids, np.array(split["train"], str))
    people = People.read(path / PEOPLE_FILE) if (path / PEOPLE_FILE).is_file() else None
    if people and people.model is not None and people.model != read_config(path)[1]["digest"]:
        raise InputError(f"{path / 'model'}: not the model that was fitted in this run; get it again")
    if cohort.manifest_hash == about["cohort"]["manifest_hash"]:
        return SplitMembership(np.where(trained, TRAIN, TEST).astype(object), True)
    same_name = cohort.spec.cohort == about["cohort"]["name"]
    if people:
        return people.split_of(cohort, patients, same_name=same_name)
    side = np.full(len(ids), UNKNOWN, object)
    if same_name:
        side[trained] = TRAIN
    count = int(trained.sum())
    return SplitMembership(side, False, by_id=count * same_name, strangers=count * (not same_name))


def _hashes(
    key: bytes, cohort: Cohort, patients: Sequence[int] | None
) -> tuple[list[str], list[str], np.ndarray]:
    """The hash of each patient's id and of the record, and whether the record can identify a person."""
    chosen = np.arange(len(cohort)) if patients is None else np.asarray(patients, np.int64)
    prints, identifies = fingerprints(cohort, chosen)

    def hashed(kind: bytes, texts: Iterable[bytes]) -> list[str]:
        return [hmac.digest(key, kind + text, "sha256")[:HASH_BYTES].hex() for text in texts]

    ids = hashed(b"id ", (str(one).encode("utf-8", "surrogatepass") for one in cohort.ids[chosen]))
    return ids, hashed(b"record ", map(bytes, prints.view(np.uint8))), identifies


def fingerprints(cohort: Cohort, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fingerprint of the record of each patient: (patient, 2) uint64; whether it can identify a person.

    Of the statics and all rows by what they say: names, not places in a vocabulary; times after the origin,
    so that a shift of all dates does not show; sums, so that the order of rows, tables and patients does not.
    What is made of other rows, the outcomes and the id are no part of it. Two lanes of 64 bits.
    """
    cohort.verify(patients)
    out, rows = np.zeros((len(patients), 2), np.uint64), np.zeros(len(patients), np.int64)
    for kind, node in cohort.spec.nodes.items():
        if node.made:
            continue
        e = cohort.events[kind]
        start, size = np.asarray(e.ptr)[patients], np.diff(e.ptr)[patients]
        rows += size
        ends = np.concatenate([[0], size.cumsum()])
        row = np.arange(ends[-1]) + np.repeat(start - ends[:-1], size)
        codes = _words(f"{kind}\0{code}" for code in cohort.codes[kind])
        bits = e.value[row].view(np.uint32).astype(np.uint64)
        for lane in (0, 1):
            h = codes[e.code[row], lane]
            for part in (e.happened[row].astype(np.uint64), e.known[row].astype(np.uint64), bits):
                h = _mixed(h ^ part)
            total = np.concatenate([np.zeros(1, np.uint64), h.cumsum(dtype=np.uint64)])
            out[:, lane] += total[ends[1:]] - total[ends[:-1]]
    number = np.asarray(cohort.number)[patients] + np.float32(0)
    names = _words(f"number\0{name}" for name in cohort.spec.patient.number)
    for i in range(number.shape[1]):
        given = np.isfinite(number[:, i])
        bits = number[:, i].copy().view(np.uint32).astype(np.uint64)
        out += np.where(given[:, None], _mixed(names[i] ^ bits[:, None]), np.uint64(0))
    category = np.asarray(cohort.category)[patients]
    for i, name in enumerate(cohort.spec.patient.category):
        levels = _words(f"category\0{name}\0{level}" for level in (*cohort.levels[name], ""))
        given = category[:, i] >= 0
        out += np.where(given[:, None], _mixed(levels[category[:, i]]), np.uint64(0))
    ordered = np.sort(number, axis=1)  # nan last
    finite = np.isfinite(ordered)
    different = finite[:, :1].sum(1) + ((np.diff(ordered, axis=1) > 0) & finite[:, 1:]).sum(1)
    return out, (rows >= MIN_RECORD_ROWS) | (different >= MIN_RECORD_VALUES)


def _words(texts: Iterable[str]) -> np.ndarray:
    """Two lanes of a hash of each text: (text, 2) uint64."""
    raw = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
    return np.frombuffer(b"".join(raw), "<u8").astype(np.uint64).reshape(-1, 2)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014): each bit of the result depends on all bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
