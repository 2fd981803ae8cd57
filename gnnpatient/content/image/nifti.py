"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz), by nibabel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gnnpatient.content.image.base import (
    Decoder,
    Frames,
    UnreadableImageError,
    check_size,
    extra,
    full_range,
    middle_slices,
    spacing_of,
)


class Nifti(Decoder):
    """Slices of the first volume, seen as radiologists do: the patient's right is left, front or head up."""

    name = "NIfTI"
    endings = (".nii",)
    read_in_parts = True
    loggers = ("nibabel", "nibabel.global")

    def recognises(self, head: bytes) -> bool:
        """Whether a file begins as NIfTI does.

        Parameters
        ----------
        head : bytes
            The first 352 bytes.

        Returns
        -------
        bool
            By the content alone.
        """
        return _starts(head)

    def declared_bytes(self, head: bytes) -> int | None:
        """Where the numbers of the volume end.

        Parameters
        ----------
        head : bytes
            The first kilobyte.

        Returns
        -------
        int
            Bytes of a whole file.
        """
        return _nifti_header(head)[-1]

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode slices along the axis of the thickest voxels, axial where they are equal.

        Parameters
        ----------
        data, slices, mask
            As in `Decoder.decode`.

        Returns
        -------
        Frames
            The slices taken.

        Raises
        ------
        UnreadableImageError
            With the reason.
        """
        return _nifti(data, slices, mask)


def _starts(head: bytes) -> bool:
    """Whether the magic of NIfTI-1 or NIfTI-2 is there, in one file or two."""
    return head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")


def _nifti_header(data: Any) -> tuple[Any, tuple[int, ...], np.dtype, int, int]:
    """Header, shape of three axes or more, type, where the numbers begin and where they must end."""
    with extra():
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    if bytes(data[344:347]) == b"ni1" or bytes(data[4:7]) == b"ni2":
        raise UnreadableImageError("NIfTI whose numbers are in another file; save it as one .nii")
    two = bytes(data[4:7]) == b"n+2"
    if len(data) < (540 if two else 348):
        raise UnreadableImageError("cut short")
    kind: Any = Nifti2Header if two else Nifti1Header
    header = kind(bytes(data[: 540 if two else 348]), check=False)
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    shape += (1,) * (3 - len(shape))
    if dtype.kind not in "uif":
        raise UnreadableImageError("NIfTI of colours or complex numbers")
    start = int(header.get_data_offset())
    if min(shape) < 1 or start < (540 if two else 348):
        raise UnreadableImageError("no pixels")
    return header, shape, dtype, start, start + math.prod(shape) * dtype.itemsize


def _nifti(data: Any, slices: int, mask: bool) -> Frames:
    """Slices of the first volume, and their place."""
    header, shape, dtype, start, end = _nifti_header(data)
    if len(data) < end:
        raise UnreadableImageError("cut short")
    flags = []
    volume: np.ndarray = np.ndarray(shape, dtype, data, start, order="F")
    for _ in shape[3:]:
        volume = volume[..., 0]
    if math.prod(shape[3:]) > 1:
        flags.append("first of several volumes")
    volume, affine, sides = _oriented(volume, header, flags)
    axis = _slice_axis(volume, sides)
    taken = middle_slices(volume.shape[axis], slices)
    down, across = (i for i in (2, 1, 0) if i != axis)
    check_size(len(taken) * volume.shape[down] * volume.shape[across])
    stack = np.moveaxis(volume, (axis, down, across), (0, 1, 2))[taken, ::-1, ::-1]
    slope, shift = header.get_slope_inter()
    if slope is not None and (slope, shift) != (1, 0):
        stack = stack * np.float64(slope) + np.float64(shift or 0)
    unit = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}.get(header.get_xyzt_units()[0], 0.0)
    origin, step = affine[:3, 3], affine[:3, :3].T
    first = origin + (volume.shape[down] - 1) * step[down] + (volume.shape[across] - 1) * step[across]
    place = np.array([[first + i * step[axis], -step[down], -step[across]] for i in taken])
    return Frames(
        full_range(stack, mask),
        tuple(flags),
        spacing_of((sides[down] * unit, sides[across] * unit)),
        taken,
        volume.shape[axis],
        # a file without a unit mostly means millimetres: enough to compare, not to measure
        place * (unit or 1),
    )


def _oriented(volume: np.ndarray, header: Any, flags: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The volume with axes to the right, to the front and to the head, its affine, and its voxels' sides."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    affine = header.get_best_affine()
    turn = io_orientation(affine)
    if not np.isfinite(turn).all():
        turn = np.array([[0, 1], [1, 1], [2, 1]])
        flags.append("orientation unknown")
    elif int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        # a guess by convention: right and left may be exchanged
        flags.append("orientation unknown")
    affine = affine @ inv_ornt_aff(turn, volume.shape)
    sides = np.zeros(3)
    sides[turn[:, 0].astype(int)] = np.abs([*header.get_zooms()[:3], 1, 1][:3])
    return apply_orientation(volume, turn), affine, sides  # a view


def _slice_axis(volume: np.ndarray, sides: np.ndarray) -> int:
    """The axis of the thickest voxels, the last where several are; one of a single slice before all."""
    thin = np.array(volume.shape) == 1
    thick = np.where(thin, np.inf, sides) if thin.any() else sides
    return max(range(3), key=lambda i: (thick[i] >= 0.999 * thick.max(), i))
