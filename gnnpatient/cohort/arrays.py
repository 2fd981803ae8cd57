"""The arrays of a cohort's folder, memory-mapped, and the hashes with which they are compared.

Every array is hashed in pieces of 16 kB; these hashes are in a file of their own. The manifest has a sha256
of the hashes of each block of 1 MB. So the rows of one patient are compared without reading the megabytes
around them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.files import inside

BLOCK = 2**20  # bytes with a hash in the manifest
PIECE = 2**14  # bytes with a hash in PIECES
PIECES = "pieces.sha256"  # 32 bytes a piece, the files in the order of the manifest
_MAX_PATIENTS_ALONE = 32  # of more patients than this, everything is compared, not only their own pieces
_PACK_AGAIN = "pack the cohort again"


def write_arrays(folder: Path, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Write arrays as NAME.npy, and the hashes of their pieces.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    columns : Mapping
        Name -> array.

    Returns
    -------
    dict
        Of each file what the manifest has about it: bytes, dtype, shape, and the hash of each block.

    Raises
    ------
    InputError
        When two names differ in upper and lower case only, or a name leads out of the folder.
    """
    entries, pieces, seen = {}, bytearray(), set[str]()
    for name, column in columns.items():
        if name.casefold() in seen:  # the same file on a disk that ignores case
            raise InputError(
                f"{name}: another node type or outcome has that name but for case; choose another name"
            )
        seen.add(name.casefold())
        file = inside(folder, f"{name}.npy")
        array = np.ascontiguousarray(column)
        np.save(file, array, allow_pickle=False)
        blocks = []
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                hashes = _hashes(block)
                pieces += hashes
                blocks.append(hashlib.sha256(hashes).hexdigest())
        entries[file.name] = {
            "bytes": file.stat().st_size,
            "dtype": array.dtype.str,
            "shape": array.shape,
            "blocks": blocks,
        }
    (folder / PIECES).write_bytes(pieces)
    return entries


def _hashes(block: bytes) -> bytes:
    """The hashes of a block's pieces, one after the other."""
    return b"".join(
        hashlib.sha256(block[begin : begin + PIECE]).digest() for begin in range(0, len(block), PIECE)
    )


class StoredArrays:
    """The arrays of a cohort's folder. What was compared with its hash is remembered.

    Parameters
    ----------
    folder : Path
        Folder of the cohort.
    manifest : Mapping
        Content of its manifest.json.

    Attributes
    ----------
    files : Mapping
        File -> what the manifest has about it.
    arrays : dict
        Name -> array, of those that were opened.
    verified : bool
        Whether everything was compared.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        self.arrays: dict[str, np.ndarray] = {}
        self.verified = False  # all is as it was packed
        self._compared: dict[str, np.ndarray] = {}  # of each array, (piece,) bool
        self._patients: set[int] = set()

    def array(self, name: str, length: int | None = None) -> np.ndarray:
        """Open an array, memory-mapped; only its size and type are compared.

        Parameters
        ----------
        name : str
            Name of the file without .npy.
        length : int, optional
            Number of rows that it must have.

        Returns
        -------
        ndarray

        Raises
        ------
        InputError
            When the file is missing, or not of the size and type that the manifest has.
        """
        file, entry = inside(self.folder, f"{name}.npy"), self.files.get(f"{name}.npy", {})
        if not file.is_file() or file.stat().st_size != entry.get("bytes"):
            raise InputError(f"{file}: missing, cut or changed; {_PACK_AGAIN}")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{file}: {error}; {_PACK_AGAIN}") from None
        header = [array.dtype.str, list(array.shape), array.flags.c_contiguous, array.offset + array.nbytes]
        if header != [entry["dtype"], list(entry["shape"]), True, entry["bytes"]]:
            raise InputError(f"{file}: its header is not what was packed; {_PACK_AGAIN}")
        if length is not None and len(array) != length:
            raise InputError(f"{file}: {len(array)} rows, the manifest has {length}; {_PACK_AGAIN}")
        self.arrays[name] = array
        return array

    def columns(self, prefix: str) -> StoredColumns:
        """Give the arrays whose names begin alike.

        Parameters
        ----------
        prefix : str
            A node type, "patient", or "outcome." with the name of an outcome.

        Returns
        -------
        StoredColumns
        """
        return StoredColumns(self, prefix)

    def verify(self, patients: Any = None) -> None:
        """Compare arrays with their hashes.

        Parameters
        ----------
        patients : array_like of int, optional
            Positions of patients; only the pieces with their rows are compared, where they are at most 32.
            Default: everything, and whether the arrays fit each other.

        Raises
        ------
        InputError
            When an array is not as it was packed.
        """
        if self.verified:
            return
        if patients is not None:
            wanted = {int(p) for p in np.unique(np.asarray(patients))} - self._patients
            if len(wanted) <= _MAX_PATIENTS_ALONE:
                for patient in wanted:
                    self._verify_one(patient)
                self._patients |= wanted
                return
        for name in self.arrays:
            self.compare(name)
        for name, fault in self._faults():
            raise InputError(f"{self.folder / name}.npy: {fault}; {_PACK_AGAIN}")
        self.verified = True

    def compare(self, name: str, start: Any = 0, stop: Any = None) -> None:
        """Compare rows of an array with their hashes.

        Parameters
        ----------
        name : str
            Array that was opened.
        start, stop : int or ndarray, optional
            First row and the one after the last, of one or several ranges. Default: all rows.

        Raises
        ------
        InputError
            When a piece is not as it was packed.
        """
        array = self.arrays[name]
        last = self._sizes[name] - 1
        if stop is None:
            wanted = np.arange(last + 1)
        else:
            size = array.strides[0] if array.ndim else 1
            ends = array.offset + np.atleast_1d(stop).astype(np.int64) * size - 1  # type: ignore[attr-defined]
            begin = array.offset + np.atleast_1d(start).astype(np.int64) * size  # type: ignore[attr-defined]
            spans = zip((begin // PIECE).tolist(), (ends // PIECE).tolist(), strict=True)
            wanted = np.unique([piece for a, b in spans for piece in range(a, min(b, last) + 1)])
            wanted = wanted.astype(np.int64)
        done = self._compared.setdefault(name, np.zeros(last + 1, bool))
        if not len(todo := wanted[~done[wanted]]):
            return
        file, per_block = self.folder / f"{name}.npy", BLOCK // PIECE
        handle = os.open(file, os.O_RDONLY)
        try:
            for block in np.unique(todo // per_block).tolist():
                hashes = self._hashes(name, block)
                for piece in todo[todo // per_block == block].tolist():
                    expected = hashes[32 * (piece % per_block) :][:32]
                    if hashlib.sha256(os.pread(handle, PIECE, piece * PIECE)).digest() != expected:
                        raise InputError(f"{file}: its content is not what was packed; {_PACK_AGAIN}")
        finally:
            os.close(handle)
        done[todo] = True

    def _hashes(self, name: str, block: int) -> bytes:
        """The hashes of the pieces of one block, after comparing them with the manifest."""
        per_block = BLOCK // PIECE
        count = min(per_block, self._sizes[name] - block * per_block)
        begin = 32 * (self._begins[name] + block * per_block)
        raw = self._raw[begin : begin + 32 * count].tobytes()
        entry = self.files[f"{name}.npy"]
        if hashlib.sha256(raw).hexdigest() != entry["blocks"][block]:
            raise InputError(f"{self.folder / PIECES}: not the hashes that the manifest has; {_PACK_AGAIN}")
        return raw

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Number of pieces of each array."""
        return {name.removesuffix(".npy"): -(-file["bytes"] // PIECE) for name, file in self.files.items()}

    @cached_property
    def _begins(self) -> dict[str, int]:
        """First piece of each array, among those of all arrays."""
        ends = np.cumsum(list(self._sizes.values())).tolist()
        return dict(zip(self._sizes, [0, *ends], strict=False))

    @cached_property
    def _raw(self) -> np.ndarray:
        """The hashes of all pieces, memory-mapped."""
        file = self.folder / PIECES
        if not file.is_file() or file.stat().st_size != 32 * sum(self._sizes.values()):
            raise InputError(f"{file}: missing, cut or changed; {_PACK_AGAIN}")
        return np.memmap(file, np.uint8, "r")

    def _verify_one(self, patient: int) -> None:
        """Compare the pieces with the rows of one patient."""
        self._verify_patient_rows(patient)
        for kind in self.manifest["rows"]:
            self._verify_events(kind, patient)

    def _verify_patient_rows(self, patient: int) -> None:
        """Compare the arrays with one row a patient, and the small ones that are read as a whole."""
        tasks = {name.rpartition(".")[0] for name in self.arrays if name.count(".") == 2}
        tasks = {name for name in tasks if f"{name}.patient" in self.arrays}
        for name in self.arrays:
            owner, _, column = name.rpartition(".")
            if column == "is_a" or owner in tasks:
                self.compare(name)
            elif column == "ptr":
                self.compare(name, patient, patient + 2)
            elif owner == "patient" or "." in owner:
                self.compare(name, patient, patient + 1)

    def _verify_events(self, kind: str, patient: int) -> None:
        """Compare the rows of one node type of one patient, and the embeddings that they point to."""
        start, end = (int(i) for i in self.arrays[f"{kind}.ptr"][patient : patient + 2])
        if not 0 <= start <= end <= self.manifest["rows"][kind]:
            raise InputError(f"{self.folder / kind}.ptr.npy: rows that are not there; {_PACK_AGAIN}")
        if start == end:
            return
        for name in self.arrays:
            owner, _, column = name.rpartition(".")
            if owner == kind and column not in ("ptr", "is_a", "vectors"):
                self.compare(name, start, end)
        if fault := _out_of(self.arrays[f"{kind}.code"][start:end], 0, len(self.manifest["codes"][kind])):
            raise InputError(f"{self.folder / kind}.code.npy: {fault}; {_PACK_AGAIN}")
        if f"{kind}.vectors" in self.arrays and f"{kind}.vector" in self.arrays:
            rows = np.unique(self.arrays[f"{kind}.vector"][start:end])
            if fault := _out_of(rows, 0, len(self.arrays[f"{kind}.vectors"])):
                raise InputError(f"{self.folder / kind}.vector.npy: {fault}; {_PACK_AGAIN}")
            self.compare(f"{kind}.vectors", rows, rows + 1)

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Arrays that do not fit each other, even with the right hashes: name, what is wrong."""
        ids, moments = self.arrays["patient.id"], np.diff(self.arrays["timepoint.ptr"])
        if (ids[1:] <= ids[:-1]).any():
            yield "patient.id", "ids are not sorted, or not different"
        category = self.arrays["patient.category"]
        for i, levels in enumerate(self.manifest["levels"].values()):
            if i < category.shape[1] and (fault := _out_of(category[:, i], -1, len(levels))):
                yield "patient.category", fault
        for kind, rows in self.manifest["rows"].items():
            ptr, known = self.arrays[f"{kind}.ptr"], self.arrays[f"{kind}.known"]
            size = np.diff(ptr)
            if ptr[0] != 0 or ptr[-1] != rows or (size < 0).any():
                yield f"{kind}.ptr", "does not rise from 0 to the number of rows"
                return
            falls = known[1:] < known[:-1]
            falls[ptr[1:-1][(ptr[1:-1] > 0) & (ptr[1:-1] < rows)] - 1] = False  # from one patient to the next
            if falls.any():
                yield f"{kind}.known", "rows of a patient are not in the order in which they became known"
            if fault := _out_of(self.arrays[f"{kind}.code"], 0, len(self.manifest["codes"][kind])):
                yield f"{kind}.code", fault
            point = self.arrays[f"{kind}.timepoint"]
            if fault := _out_of(point, 0, np.repeat(moments, size)):
                yield f"{kind}.timepoint", fault
            if f"{kind}.vectors" in self.arrays and f"{kind}.vector" in self.arrays:
                end = len(self.arrays[f"{kind}.vectors"])
                if fault := _out_of(self.arrays[f"{kind}.vector"], 0, end):
                    yield f"{kind}.vector", fault


@dataclass(frozen=True)
class StoredColumns:
    """The arrays of one part of a cohort, whose names begin alike: a node type, an outcome, the patients.

    Attributes
    ----------
    arrays : StoredArrays
        All arrays of the folder.
    prefix : str
        What the names begin with.
    """

    arrays: StoredArrays
    prefix: str

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}.{name}.npy" in self.arrays.files

    def read(self, name: str, length: int | None = None) -> np.ndarray:
        """Open an array.

        Parameters
        ----------
        name : str
            Name without the prefix.
        length : int, optional
            Number of rows that it must have.

        Returns
        -------
        ndarray

        Raises
        ------
        InputError
            When it is missing, or not as it was packed.
        """
        return self.arrays.array(f"{self.prefix}.{name}", length)

    def read_optional(self, name: str, length: int | None = None) -> np.ndarray | None:
        """Open an array that not every cohort has.

        Parameters
        ----------
        name : str
            Name without the prefix.
        length : int, optional
            Number of rows that it must have.

        Returns
        -------
        ndarray or None
        """
        return self.read(name, length) if name in self else None


def _out_of(numbers: np.ndarray, low: int, end: Any) -> str:
    """A message about numbers outside low <= number < end; empty where there are none."""
    bad = int(((numbers < low) | (numbers >= end)).sum())
    return f"{bad} number(s) out of range" if bad else ""
