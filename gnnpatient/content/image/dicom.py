"""DICOM, by pydicom: every frame as it is meant to be shown, and what its header says of doubtful things."""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np

from gnnpatient.content.image.base import (
    Decoder,
    Frames,
    UnreadableImageError,
    between,
    check_size,
    extra,
    luminance,
    spacing_of,
)

MAX_HEADER_BYTES = 16 << 20  # bytes that a packed DICOM file may hold beside its pixels
_IDENTIFYING = {
    "BurnedInAnnotation": "text burned into the image",
    "RecognizableVisualFeatures": "recognisable features of a person",
}
"""Attributes that are YES where the pixels themselves may identify the patient."""
_REMOVED_ID = re.compile(
    r"(?i)[\W_x0]*|(anonym|anon|de-?ident|pseudonym|unknown|none|not.?given|n/?a|test|phantom).*"
)
"""What is written in place of a PatientID that was removed."""


class Dicom(Decoder):
    """Every frame of a DICOM file that holds pixels."""

    name = "DICOM"
    endings = (".dcm", ".dicom", ".ima")
    keeps_edges = False
    loggers = ("pydicom",)

    def recognises(self, head: bytes) -> bool:
        """Whether a file begins as DICOM, after its preamble, does.

        Parameters
        ----------
        head : bytes
            The first 352 bytes.

        Returns
        -------
        bool
            By the content alone.
        """
        return head[128:132] == b"DICM"

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode every frame, as it is meant to be shown.

        Parameters
        ----------
        data, slices, mask
            As in `Decoder.decode`.

        Returns
        -------
        Frames
            All of the file, in order.

        Raises
        ------
        UnreadableImageError
            With the reason.
        """
        return _dicom(data)


def lacks_preamble(head: bytes) -> bool:
    """Whether a file begins as a DICOM file without the 128 bytes and "DICM" that should begin it.

    Parameters
    ----------
    head : bytes
        The first bytes.

    Returns
    -------
    bool
        Whether the first group of a header, or of its meta information, is at the very beginning.
    """
    return head[:2] in (b"\2\0", b"\x08\0") and head[3:4] == b"\0"


def _dicom(data: Any) -> Frames:
    """Every frame, as it is meant to be shown: rescale, then window, then MONOCHROME1 turned (PS3.3 C.11)."""
    header = _dataset(bytes(data))
    stored = _stored(header)
    flags = ["bad dates"] if _bad_dates(header) else []
    flags += ["dates disagree"] * _dates_disagree(header)
    flags += [
        flag for name, flag in _IDENTIFYING.items() if str(header.get(name) or "").strip().upper() == "YES"
    ]
    attributes: dict[str, Any] = {
        "spacing": _pixel_spacing(header, flags),
        "place": _optional(lambda: _place_of(header, len(stored)), flags),
        "instance": _instance(header, stored),
    }
    if stored.ndim == 4:
        return Frames(luminance(stored), tuple(flags), **attributes)
    padding = _optional(lambda: _padding(header, stored), flags)
    stack = np.empty(stored.shape, np.float32)
    for i, frame in enumerate(stored):
        stack[i], slope = _rescaled(header, i, frame)
        if slope == 0 and "rescale slope 0" not in flags:
            flags.append("rescale slope 0")
    real = stack if padding is None else stack[~padding]
    low, high = (float(real.min()), float(real.max())) if real.size else (0.0, 0.0)
    if not math.isfinite(high - low):
        raise UnreadableImageError("numbers that are not finite")
    for i, frame in enumerate(stack):
        try:
            shown = _windowed(header, i, frame)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            shown = None
            why = ["no usable window", *([str(error)] if isinstance(error, UnreadableImageError) else [])]
            flags += [flag for flag in why if flag not in flags]
        stack[i] = between(frame, low, high) if shown is None else shown
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        np.subtract(1, stack, out=stack)
    if padding is not None:
        stack[padding] = 0
    return Frames(stack, tuple(flags), **attributes)


_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = "1.2.840.10008.1.2.1"


def _dataset(data: bytes) -> Any:
    """A DICOM file, parsed; what is deflated unpacks to little more than it declares."""
    with extra():
        import pydicom
        from pydicom.dataset import FileMetaDataset
        from pydicom.filereader import read_dataset
    header: Any
    if data[128:132] != b"DICM":
        header = pydicom.dcmread(BytesIO(data), force=True)
        if "TransferSyntaxUID" not in header.file_meta:
            plain = "1.2.840.10008.1.2" if header.original_encoding[0] else _PLAIN
            header.file_meta.TransferSyntaxUID = pydicom.uid.UID(plain)
        return header
    handle = BytesIO(data)
    handle.seek(132)
    meta = read_dataset(handle, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        header = pydicom.dcmread(BytesIO(data))
        if "Rows" not in header and "Rows" in pydicom.dcmread(BytesIO(data), stop_before_pixels=True):
            raise UnreadableImageError(
                "pixel data missing or cut short"
            )  # of compressed pixels without an end
        return header
    engine = zlib.decompressobj(-15)
    content = engine.decompress(data[handle.tell() :], MAX_HEADER_BYTES)
    before = read_dataset(
        BytesIO(content), False, True, stop_when=lambda tag, vr, length: tag.group >= 0x7FE0
    )
    _, needed = _declared(before, "PixelData")
    content += engine.decompress(engine.unconsumed_tail, needed)
    if not engine.eof and engine.decompress(engine.unconsumed_tail, 1):
        raise UnreadableImageError("unpacks to more than it declares")
    if not engine.eof:
        raise UnreadableImageError("cut short")
    header = read_dataset(BytesIO(content), False, True)
    header.file_meta = FileMetaDataset(meta)
    header.file_meta.TransferSyntaxUID = pydicom.uid.UID(_PLAIN)
    return header


def _declared(header: Any, name: str) -> tuple[tuple[int, int, int, int], int]:
    """Frames, rows, columns, samples, and the bytes that they take: some, and not too many."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise UnreadableImageError("DICOM without an image")
    frames = _whole_number(header, "NumberOfFrames")
    if frames is not None:
        header.NumberOfFrames = frames  # the decoder reads it again
    frames = 1 if frames is None else frames or 1
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(name) or int(header.BitsAllocated)
    if min(frames, rows, columns, samples) < 1:
        raise UnreadableImageError("no pixels")
    count = frames * rows * columns * samples
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        count = count // 3 * 2
    size = (count * bits + 7) // 8
    check_size(frames * rows * columns, size)
    return (frames, rows, columns, samples), size


def _stored(header: Any) -> np.ndarray:
    """(frame, row, column) as stored, with a fourth axis for colours; all frames are there."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    name = next((name for name in names if header.get(name) is not None), "")
    if not name and header.get("Rows") is not None:
        raise UnreadableImageError("pixel data missing or cut short")
    (frames, rows, columns, samples), size = _declared(header, name)
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        syntax = UID(syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "not given")
        known = "pip install 'gnnpatient[image]' reads JPEG, JPEG 2000 and RLE"
        raise UnreadableImageError(f"transfer syntax {syntax} is unknown; {known}") from None
    if not decoder.is_available:
        raise UnreadableImageError(
            f"transfer syntax {syntax} ({syntax.name}) needs pip install pylibjpeg-libjpeg"
        )
    if not syntax.is_encapsulated:
        if len(header[name].value) < size:
            raise UnreadableImageError("pixel data missing or cut short")
    else:
        if "ExtendedOffsetTable" in header:
            table = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
            streams = list(generate_frames(header.PixelData, extended_offsets=table))
        else:
            streams = list(generate_frames(header.PixelData, number_of_frames=frames))
        if len(streams) < frames:
            raise UnreadableImageError("pixel data missing or cut short")
        if any(_stream_size(stream) not in (None, (rows, columns, samples)) for stream in streams):
            raise UnreadableImageError("a compressed frame has another size than the header")
    array = np.asarray(header.pixel_array)
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        array = apply_color_lut(array, header)
    colours = array.size // (frames * rows * columns)
    return array.reshape(frames, rows, columns, *([colours] if colours > 1 else []))


def _stream_size(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a JPEG or JPEG 2000 stream declares itself; None for others."""
    if (at := stream.find(b"\xff\x4f\xff\x51", 0, 1 << 12)) >= 0:
        right, down, left, up = (int.from_bytes(stream[i : i + 4], "big") for i in range(at + 8, at + 24, 4))
        return down - up, right - left, int.from_bytes(stream[at + 40 : at + 42], "big")
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 10 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = (int.from_bytes(stream[i : i + 2], "big") for i in (at + 5, at + 7))
            return rows, columns, stream[at + 9]
        at += 1 if marker == 0xFF else 2 + length
    return None


def _rescaled(header: Any, frame: int, stored: np.ndarray) -> tuple[np.ndarray, float]:
    """Modality values of a frame, and the slope."""
    if header.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        _signed_first(header.ModalityLUTSequence[0], bool(header.get("PixelRepresentation")))
        return apply_modality_lut(stored, header), 1.0
    for place in _places(header, frame, "PixelValueTransformationSequence"):
        slope, shift = _number(place, "RescaleSlope"), _number(place, "RescaleIntercept")
        if slope is not None or shift is not None:
            slope = 1.0 if slope is None else slope
            return stored * np.float64(slope) + np.float64(shift or 0), slope
    return stored, 1.0


def _windowed(header: Any, frame: int, values: np.ndarray) -> np.ndarray | None:
    """[0, 1] by the VOI look-up or the first window; None without one. ValueError: it makes no sense."""
    if header.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        _signed_first(header.VOILUTSequence[0], bool(values.size) and float(values.min()) < 0)
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(np.rint(values).astype(np.int32), header) / np.float32(2**bits - 1)
    for place in _places(header, frame, "FrameVOILUTSequence"):
        center, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
        if center is None or width is None:
            continue
        function = place.get("VOILUTFunction") or "LINEAR"
        if width < (1 if function == "LINEAR" else 1e-9):
            raise ValueError
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float32)
        return between(values, center - width / 2, center + width / 2)
    return None


def _padding(header: Any, stored: np.ndarray) -> np.ndarray | None:
    """Where a scanner wrote that there is no image."""
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    ends = []
    for name in (f"{kind}PixelPaddingValue", f"{kind}PixelPaddingRangeLimit"):
        value = header.get(name)
        if value is None or value == "":
            break
        try:
            if isinstance(value, bytes):  # of a VR that the file does not name
                value = int.from_bytes(value[:2], "little" if header.original_encoding[1] else "big")
            ends.append(float(value) if kind else _as_stored(int(value), header))
        except (TypeError, ValueError, OverflowError):
            raise UnreadableImageError(f"{name} is no number") from None
    if not ends:
        return None
    there = (stored >= min(ends)) & (stored <= max(ends))
    return there if there.any() else None


def _as_stored(value: int, header: Any) -> int:
    """A number of 16 bits as the pixels have it, whatever VR it was written with.

    PixelRepresentation says whether it has a sign (PS3.3 C.7.5.1.1.2); one of fewer bits may lack those above
    its own.
    """
    if not header.get("PixelRepresentation"):
        return value % (1 << 16)
    value = (value + (1 << 15)) % (1 << 16) - (1 << 15)
    bits = int(header.get("BitsStored") or 16)
    return value - (1 << bits) if 1 << (bits - 1) <= value < 1 << bits else value


def _signed_first(item: Any, signed: bool) -> None:
    """The first value that a look-up table maps, fixed in place, where it was written without its sign."""
    size, first, bits = (int(x) for x in item.LUTDescriptor)
    if signed and first >= 1 << 15:
        item.LUTDescriptor = [size, first - (1 << 16), bits]


def _pixel_spacing(header: Any, flags: list[str]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; a flag where they are given and of no use."""
    places = [(place, "PixelSpacing") for place in _places(header, 0, "PixelMeasuresSequence")]
    found = False
    for place, name in [*places, (header, "ImagerPixelSpacing")]:
        numbers = _optional(partial(_numbers, place, name), flags)
        if spacing := spacing_of(numbers):
            return spacing
        found |= bool(numbers)
    flags += ["no usable spacing"] * found
    return None


def _place_of(header: Any, frames: int) -> np.ndarray | None:
    """(frame, 3, 3) as `Image.place`; None where not given for each frame (PS3.3 C.7.6.2.1.1)."""

    def numbers(frame: int, group: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        places = _places(header, frame, group)
        values = next((found for place in places if (found := _numbers(place, name))), None)
        return np.array(values, float).reshape(shape)

    try:
        place = []
        for i in range(frames):
            first = numbers(i, "PlanePositionSequence", "ImagePositionPatient", (3,))
            across, down = numbers(i, "PlaneOrientationSequence", "ImageOrientationPatient", (2, 3))
            sides = numbers(i, "PixelMeasuresSequence", "PixelSpacing", (2,))
            place.append([first, down * sides[0], across * sides[1]])
    except UnreadableImageError:  # given, but no numbers: becomes a flag
        raise
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None
    return np.array(place) * (-1, -1, 1)  # DICOM counts to the left and to the back


def _places(header: Any, frame: int, group: str) -> Iterator[Any]:
    """Where an attribute may stand: in the header, or in a functional group of all frames or of this one."""
    yield header
    for name, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = header.get(name) or []
        if index < len(groups) and (inner := groups[index].get(group)):
            yield inner[0]


def _instance(header: Any, stored: np.ndarray) -> tuple[str, str, str] | None:
    """Digests of the SOPInstanceUID, of the pixels as stored, in either order of bytes, and of the PatientID;
    None without the first."""
    uid = str(header.get("SOPInstanceUID") or "")
    person = str(header.get("PatientID") or "").strip()
    pixels = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    content = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    content.update(pixels.view(np.uint8).data)
    person_digest = "" if _REMOVED_ID.fullmatch(person) else digest(person)
    return (digest(uid), content.hexdigest(), person_digest) if uid else None


def digest(identifier: str) -> str:
    """The only form in which an identifier leaves this file.

    Parameters
    ----------
    identifier : str
        A UID or a PatientID.

    Returns
    -------
    str
        sha256 in hexadecimal.
    """
    return hashlib.sha256(identifier.encode(errors="replace")).hexdigest()


_DECIMAL = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")


def _numbers(place: Any, name: str) -> list[float]:
    """The numbers that an attribute holds as text (DS, IS), [] where it is not there or empty.

    A comma is read as a point, since thousands are never separated (PS3.5 6.2). Anything else raises
    UnreadableImageError with the name of the attribute, never with what it holds.
    """
    try:
        value = place.get(name)
        parts = [value] if value is None or isinstance(value, str | int | float) else list(value)
        if parts in ([None], [""]):
            return []
        if not all(_DECIMAL.fullmatch(str(part)) for part in parts):
            raise ValueError
        numbers = [float(str(part).replace(",", ".")) for part in parts]
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UnreadableImageError(f"{name} is no number") from None
    return numbers


def _number(place: Any, name: str) -> float | None:
    """The first of them; None where there is none."""
    return next(iter(_numbers(place, name)), None)


def _whole_number(place: Any, name: str) -> int | None:
    """The same of a whole number."""
    number = _number(place, name)
    if number is not None and number != int(number):
        raise UnreadableImageError(f"{name} is no whole number")
    return None if number is None else int(number)


def _optional(read: Callable[[], Any], flags: list[str]) -> Any:
    """What can be done without: None, and a flag, where it cannot be read."""
    try:
        return read()
    except UnreadableImageError as error:
        flags += [str(error)] * (str(error) not in flags)
        return None


_DATE_ATTRIBUTES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate")


def _dates(header: Any) -> dict[str, date | None]:
    """The dates of a header by their names, None for one that is none. They are looked at for flags only; no
    time of an image comes from here."""
    texts = {name: str(header.get(name) or "").strip() for name in _DATE_ATTRIBUTES}
    texts["AcquisitionDateTime"] = str(header.get("AcquisitionDateTime") or "").strip()[:8]
    days = dict[str, date | None]()
    for name, text in texts.items():
        if text:
            days[name] = None
            with suppress(AttributeError, ValueError):
                year, month, day = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text).groups()  # type: ignore[union-attr]
                days[name] = date(int(year), int(month), int(day))
    return days


def _bad_dates(header: Any) -> bool:
    """Whether a date is none, an age over 130 years, or a birth comes after the study (else after today)."""
    days = _dates(header)
    if None in days.values():
        return True
    known = {name: day for name, day in days.items() if day is not None}
    born, others = known.pop("PatientBirthDate", None), list(known.values())
    age = re.fullmatch(r"(\d{3})([DWMY])", text := str(header.get("PatientAge") or "").strip())
    if (text and not age) or (age and age[2] == "Y" and int(age[1]) > 130):
        return True
    return min([*others, *([born] if born else []), date(9999, 1, 1)]).year < 1850 or (
        born is not None and born > (max(others) if others else date.today())
    )


def _dates_disagree(header: Any) -> bool:
    """Whether study, series, acquisition and content are more than a day apart (a night lies between), or a
    birth comes after the first of them; after all of them it is a bad date."""
    known = {name: day for name, day in _dates(header).items() if day is not None}
    born, others = known.pop("PatientBirthDate", None), list(known.values())
    if not others:
        return False
    return (max(others) - min(others)).days > 1 or (born is not None and min(others) < born <= max(others))
