"""Which patients a run was fitted on, in a private file of the run: keyed hashes of ids and of records.

A cohort's name does not show it: ids may be reassigned, the cohort packed again, or another hospital's cohort
have the same name. The key is random and lies beside the hashes, so the file is as private as the split
itself.
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
from gnnpatient.show import Shown, Summary

FORMAT = 2  # of a run
PEOPLE_FILE = "people.json"
# a record with fewer rows, and fewer different numbers among its statics, may be that of several people
MIN_RECORD_ROWS, MIN_RECORD_VALUES = 3, 5
HASH_BYTES = 16  # bytes of a hash that are kept
TRAIN, TEST, UNKNOWN = "train", "test", None


@dataclass(frozen=True, eq=False)
class SplitMembership:
    """Which patients of a cohort belong to a run's training or test part.

    Attributes
    ----------
    side : ndarray
        "train", "test", or None where unknown, of each patient.
    exact : bool
        Whether it is the very cohort of the run.
    by_record : int
        Patients recognised by their record alone: possibly the same person under another id.
    by_id : int
        Patients recognised by their id alone: the record is another one than at the fit.
    strangers : int
        Patients with an id of a training patient who are not taken for that one.
    """

    side: np.ndarray  # (patient,) str or None
    exact: bool
    by_record: int = 0
    by_id: int = 0
    strangers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Counts for JSON: nobody is named.

        Returns
        -------
        dict
        """
        return {
            **{name: self.count(name) for name in (TRAIN, TEST)},
            "unknown": self.count(UNKNOWN),
            **{name: value for name, value in vars(self).items() if name != "side"},
        }

    def count(self, side: str | None) -> int:
        """Count the patients of one part.

        Parameters
        ----------
        side : str or None
            "train", "test" or None for unknown.

        Returns
        -------
        int
        """
        return sum(one == side for one in self.side)

    @property
    def known(self) -> bool:
        """Whether anybody belongs to the run."""
        return any(one is not None for one in self.side)


@dataclass(frozen=True, eq=False, repr=False)
class People(Shown):
    """The patients of a run as keyed hashes: they can be recognised only with the key.

    Attributes
    ----------
    key : bytes
        Random, of this run alone.
    ids : tuple of str
        Hashes of the ids.
    records : tuple of str
        Hashes of the records, in the same order.
    train : tuple of bool
        Whether each is a training patient.
    model : str or None
        Digest of the model that was fitted on them.
    """

    key: bytes
    ids: tuple[str, ...]
    records: tuple[str, ...]
    train: tuple[bool, ...]
    model: str | None = None

    def _summary(self) -> Summary:
        return Summary(f"People of a run: {len(self.ids)}, {sum(self.train)} of them trained on")

    @classmethod
    def of(cls, cohort: Cohort, test: np.ndarray) -> People:
        """Hash all patients of a cohort, in an order that is not theirs.

        Parameters
        ----------
        cohort : Cohort
            The run's cohort.
        test : ndarray
            (patient,) bool, who is held out.

        Returns
        -------
        People
        """
        key = secrets.token_bytes(32)
        found = _hashes(key, cohort, None)[:2]
        every = sorted(zip(*found, (~test).tolist(), strict=True))
        ids, records, train = zip(*every, strict=True)
        return cls(key, ids, records, train)

    def write(self, path: Path) -> None:
        """Write the private file.

        Parameters
        ----------
        path : Path
            Where; an older file is replaced in one step.
        """
        content: dict[str, Any] = {"key": self.key.hex(), "model": self.model}
        content |= {"ids": self.ids, "records": self.records, "train": self.train}
        with atomic_file(path, private=True) as part:
            part.write_text(sealed(content), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> People:
        """Read what `write` wrote.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        People

        Raises
        ------
        InputError
            When the file was changed.
        """
        raw = path.read_bytes()
        try:
            content = json.loads(raw) if is_sealed(raw) else {}
            ids, records, train = (tuple(content[name]) for name in ("ids", "records", "train"))
            return cls(bytes.fromhex(content["key"]), ids, records, train, content["model"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: not as fit wrote it; fit again, or remove it: then no patient is recognised by it"
            ) from None

    def with_model(self, digest: str) -> People:
        """The same with the digest of the model that was fitted on them.

        Parameters
        ----------
        digest : str
            Of the model's config.json.

        Returns
        -------
        People
        """
        return replace(self, model=digest)

    def split_of(self, cohort: Cohort, patients: Sequence[int] | None, *, same_name: bool) -> SplitMembership:
        """Recognise patients of a cohort.

        A record of a training patient counts as that patient's, whatever the id. An id alone, with another
        record, is believed for training where the cohorts have one name, since a later export has more rows;
        never for held out.

        Parameters
        ----------
        cohort : Cohort
            Any cohort.
        patients : sequence of int or None
            Positions of some patients; None: all.
        same_name : bool
            Whether the cohort has the name of the run's.

        Returns
        -------
        SplitMembership
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
    """Read the files of a run.

    Parameters
    ----------
    folder : str or Path
        RUN, or RUN/model.

    Returns
    -------
    tuple of (Path, dict, dict)
        RUN; the content of run.json; that of split.json: ids of "train" and "test".

    Raises
    ------
    InputError
        When it is no run, of another version, or a file was changed.
    """
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
    """Find which patients of a cohort a run was fitted on or held out.

    In the very cohort of the run by their ids; elsewhere by id and record, never by the cohort's name alone.
    Where people.json was removed, the ids of training are believed in a cohort of the same name.

    Parameters
    ----------
    folder : str or Path
        RUN, or RUN/model.
    cohort : Cohort
        Any cohort.
    patients : sequence of int, optional
        Positions of some patients; default: all.

    Returns
    -------
    SplitMembership

    Raises
    ------
    InputError
        When it is no run, or its model is not the one that was fitted in it.
    """
    path, about, split = read_run(folder)
    ids = cohort.ids if patients is None else cohort.ids[np.asarray(patients, np.int64)]
    trained = np.isin(ids, np.array(split["train"], str))
    people = People.read(path / PEOPLE_FILE) if (path / PEOPLE_FILE).is_file() else None
    if people and people.model is not None and people.model != read_config(path)[1]["digest"]:
        raise InputError(f"{path / 'model'}: not the model that was fitted in this run; download it again")
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
    """The hash of each patient's id and record, and whether the record can identify a person."""
    chosen = np.arange(len(cohort)) if patients is None else np.asarray(patients, np.int64)
    prints, identifies = fingerprints(cohort, chosen)

    def hashed(kind: bytes, texts: Iterable[bytes]) -> list[str]:
        return [hmac.digest(key, kind + text, "sha256")[:HASH_BYTES].hex() for text in texts]

    ids = hashed(b"id ", (str(one).encode("utf-8", "surrogatepass") for one in cohort.ids[chosen]))
    return ids, hashed(b"record ", map(bytes, prints.view(np.uint8))), identifies


def fingerprints(cohort: Cohort, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprint the records of patients.

    Made of the statics and all rows by their meaning: names, not positions in a vocabulary; times after the
    origin, so that a shift of all dates does not matter; sums, so that the order of rows, tables and patients
    does not. Derived nodes, the outcomes and the id are left out.

    Parameters
    ----------
    cohort : Cohort
        Any cohort.
    patients : ndarray
        (patient,) int64, positions.

    Returns
    -------
    tuple of ndarray
        (patient, 2) uint64, 128 bits each; (patient,) bool, whether the record can identify a person.
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
    """A hash of each text: (text, 2) uint64."""
    raw = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
    return np.frombuffer(b"".join(raw), "<u8").astype(np.uint64).reshape(-1, 2)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014): each bit of the result depends on all bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
