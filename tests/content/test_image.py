"""Picture files, good and broken: grey pixels in [0, 1], or one reason that names no patient."""

import gzip
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpatient.content.image import base
from gnnpatient.content.image.base import UnreadableImageError
from gnnpatient.content.image.files import conflicts, fingerprint, locate
from gnnpatient.content.image.read import read_images
from gnnpatient.content.image.worker import Worker, guarded
from gnnpatient.errors import InputError

RAMP = (np.arange(48 * 40).reshape(48, 40) * 2).astype(np.uint16)  # 0 to 3838, fits 12 bits
PHI = "DOE^JANE MRN-4711 12 Elm Street"


@pytest.fixture
def plain(tmp_path):
    """Read bytes under a name, without a step."""

    def read(data: bytes, name: str = "a", **how):
        (tmp_path / name).write_bytes(data)
        return read_images(tmp_path / name, ("none",), **how)

    return read


@pytest.fixture
def reason(plain):
    def read(data: bytes, name: str = "a", **how) -> str:
        with pytest.raises(UnreadableImageError) as caught:
            plain(data, name, **how)
        return str(caught.value)

    return read


# -- makers -----------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int, raw: bytes, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def png(array: np.ndarray, **more) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", **more)
    return out.getvalue()


def jpeg(array: np.ndarray, **more) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "JPEG", quality=95, **more)
    return out.getvalue()


def npy(array: np.ndarray, **more) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **more)
    return out.getvalue()


def dataset(array: np.ndarray = RAMP, **tags):
    """A whole DICOM picture of 16 bits; a tag set to None is left out."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    header.StudyDate, header.Modality, header.PatientBirthDate = "20210304", "DX", "19600101"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = array.shape[-2:]
    if array.ndim == 3:
        header.NumberOfFrames = len(array)
    header.BitsAllocated = header.BitsStored = 8 * array.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(array.dtype.kind == "i")
    header.add_new("PixelData", "OW", array.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a date is none is what is asked for
        for name, value in tags.items():
            if value is None:
                del header[name]
            else:
                setattr(header, name, value)
    return header


def written(header, **how) -> bytes:
    import pydicom

    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(out, header, enforce_file_format=True, **how)
    return out.getvalue()


def dicom(array: np.ndarray = RAMP, **tags) -> bytes:
    return written(dataset(array, **tags))


def deflated(inside: bytes) -> bytes:
    """A DICOM file whose data set, already encoded, is deflated."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    header = dataset()
    whole = written(header)
    start = whole.index(b"\x08\0\x16\0UI")  # SOPClassUID, the first after the meta header
    meta = dataset()
    meta.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = written(meta)
    engine = zlib.compressobj(1, zlib.DEFLATED, -15)
    assert whole[start:]
    size = struct.unpack("<I", head[140:144])[0]
    return head[: 144 + size] + engine.compress(inside) + engine.flush()


def body(header) -> bytes:
    whole = written(header)
    return whole[144 + struct.unpack("<I", whole[140:144])[0] :]


def nifti(volume: np.ndarray, affine=None, unit: str = "mm", slope=None, two: bool = False) -> bytes:
    import nibabel

    made = (nibabel.Nifti2Image if two else nibabel.Nifti1Image)(
        volume, np.eye(4) if affine is None else affine
    )
    made.header.set_xyzt_units(unit)
    if slope:
        made.header.set_slope_inter(*slope)
    return made.to_bytes()


def scaled(array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float64)
    return (array - array.min()) / (array.max() - array.min())


# -- faults P01 to P18, built here --------------------------------------------------------------------------


def test_p01_p02_a_short_file_is_never_filled_with_zeros(reason):
    whole = dicom()
    short = reason(dicom(PixelData=RAMP.tobytes()[:1000]))
    assert short == reason(whole[: len(whole) // 3]) == "pixel data missing or cut short"
    assert reason(whole[:-2]) == short
    assert reason(whole[:700]) in (short, "DICOM without an image")


def test_p03_what_is_not_dicom_is_named(reason):
    assert reason(b"", "a.dcm") == "not a DICOM file: it is empty"
    assert reason(b"just a text", "a.dcm") == "not a DICOM file"
    assert reason(b"", "a") == "empty file"
    assert reason(b"just a text", "a.png") == "not a PNG file"
    assert reason(b"GIF89a" + bytes(40), "a") == "not a PNG, JPEG, DICOM, npy or NIfTI file"


def test_p04_without_a_preamble_only_when_asked_for(plain, reason):
    whole = dicom()
    assert reason(whole[132:], "a.dcm") == "not a DICOM file: it lacks the preamble; bare=True reads it"
    assert np.array_equal(plain(whole[132:], bare=True)[0].pixels, plain(whole)[0].pixels)
    assert np.array_equal(plain(body(dataset()), bare=True)[0].pixels, plain(whole)[0].pixels)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 900}])
def test_p05_monochrome1_is_turned(plain, window):
    (right,) = plain(dicom(**window))
    if window:
        window["WindowCenter"] = 4095 - 1500 + 1  # centre - 0.5 is where half lies, PS3.3 C.11.2.1.2
    (other,) = plain(dicom(4095 - RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(right.pixels - other.pixels).max() < 1e-6
    assert right.pixels[0, 0] == 0 and right.pixels[-1, -1] == 1


def test_p06_p07_p14_bombs_cost_no_memory(tmp_path, reason, monkeypatch):
    big = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 1000}
    pixels = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 300 << 20)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<f8", "fortran_order": False, "shape": (99999, 99999)}
    )
    bombs = {
        "huge.dcm": (dicom(**big), "declares more than 100 million pixels"),
        "bare.dcm": (deflated(pixels + bytes(300 << 20)), "DICOM without an image"),
        "more.dcm": (
            deflated(body(dataset(PixelData=None)) + pixels + bytes(300 << 20)),
            "unpacks to more than it declares",
        ),
        "a.png": (png_of(30000, 30000, bytes(10**6)), "declares more than 100 million pixels"),
        "b.png": (png_of(12000, 9000, bytes(10**6)), "declares more than 100 million pixels"),
        "rgba.png": (png_of(9999, 9999, bytes(10**6), 16, 6), "cut short"),
        "a.npy": (huge.getvalue() + bytes(60), "declares more than 100 million pixels"),
        "a.nii.gz": (gzip.compress(nifti(np.zeros((9, 9, 9), np.int16))[:352] + bytes(300 << 20), 1), None),
        "b.dcm.gz": (gzip.compress(bytes(200 << 20), 1), "not a DICOM file"),
    }
    for name, (data, _) in bombs.items():
        (tmp_path / name).write_bytes(data)
    for (name, (_, said)), (_, answer) in zip(
        bombs.items(), guarded([tmp_path / name for name in bombs], memory=100 << 20), strict=True
    ):
        if name == "a.nii.gz":
            assert not isinstance(answer, str) and answer[0].flags == ("constant",)
        else:
            assert answer == said, name
    monkeypatch.setattr(base, "LARGEST_BYTES", 4 << 20)
    assert reason(gzip.compress(bytes(128) + b"DICM" + bytes(5 << 20))) == "unpacks to more than 4 MB"
    assert reason(bytes(5 << 20)) == "larger than 4 MB"


def test_p08_an_unknown_transfer_syntax_is_named(reason):
    header = dataset()
    whole = written(header).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    said = reason(whole)
    assert "1.2.840.10008.1.9.9" in said and "pip install 'gnnpatient[image]'" in said
    leaky = reason(written(header).replace(b"1.2.840.10008.1.2.1\0", b"DOE^JANE 1960-01-01\0"))
    assert "DOE" not in leaky


def test_a_known_syntax_without_its_package_is_named_too(reason):
    header = dataset()
    whole = written(header)
    at = whole.index(b"1.2.840.10008.1.2.1\0")
    longer = whole[: at - 2] + struct.pack("<H", 22) + b"1.2.840.10008.1.2.4.70" + whole[at + 20 :]
    longer = longer[:140] + struct.pack("<I", struct.unpack("<I", whole[140:144])[0] + 2) + longer[144:]
    assert reason(longer).startswith("transfer syntax 1.2.840.10008.1.2.4.70 (JPEG Lossless")
    assert "pylibjpeg-libjpeg" in reason(longer)


@pytest.mark.parametrize(
    ("tags", "bad"),
    [
        ({}, False),
        ({"StudyDate": "20211332"}, True),
        ({"PatientBirthDate": "20990101"}, True),
        ({"StudyDate": "21130405", "PatientBirthDate": "20990101"}, False),  # all shifted by a century
        ({"StudyDate": None, "PatientBirthDate": "29990101"}, True),
        ({"PatientAge": "999Y"}, True),
        ({"PatientAge": "064Y"}, False),
        ({"PatientAge": "old"}, True),
        ({"StudyDate": "2021.03.04"}, False),
        ({"StudyDate": "17210304", "PatientBirthDate": None}, True),
        ({"StudyDate": None, "PatientBirthDate": None}, False),
    ],
)
def test_p09_bad_dates_are_a_flag_and_nothing_else(plain, tags, bad):
    (picture,) = plain(dicom(**tags))
    assert picture.flags == (("bad dates",) if bad else ())
    assert set(picture.__dataclass_fields__) == {
        "pixels", "flags", "spacing", "frame", "depth", "place", "instance",
    }  # fmt: skip


def test_dates_that_disagree_and_pixels_that_tell_are_flagged(plain):
    def flags(**tags):
        return plain(dicom(**tags))[0].flags

    assert flags(AcquisitionDate="20210305", ContentDate="20210304") == ()  # over a night
    for tags in (
        {"AcquisitionDate": "20210306"},
        {"SeriesDate": "20200304"},
        {"ContentDate": "20220304"},
        {"AcquisitionDateTime": "20191231120000.000000+0100"},
        {"ContentDate": "20210305", "PatientBirthDate": "20210305"},
    ):
        assert flags(**tags) == ("dates disagree",)
    assert flags(PatientBirthDate="20210401") == ("bad dates",)
    assert flags(BurnedInAnnotation="YES") == ("text burned into the image",)
    assert flags(RecognizableVisualFeatures="YES") == ("recognisable features of a person",)
    assert flags(BurnedInAnnotation="NO", RecognizableVisualFeatures="NO") == ()


def test_p10_one_identifier_with_two_contents(tmp_path):
    other = RAMP.copy()
    other[3, 3] += 1
    packed = dataset()
    packed.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    swapped = dataset(RAMP.astype(">u2"))
    swapped.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    files = {
        "a.dcm": dicom(),
        "new_header": dicom(PatientName="X", StudyDate="20200101"),
        "b.dcm": dicom(other),
        "alone.dcm": dicom(other, SOPInstanceUID="1.2.3.5"),
        "packed.dcm": written(packed),
        "broken.dcm": dicom()[:900],
        "c.png": png(np.uint8([[0, 1]])),
        "d.dcm.gz": gzip.compress(
            dicom(2 * RAMP)
        ),  # the same picture once it is scaled, not the same content
        "e.dcm": deflated(body(dataset())),
        "swapped.dcm": written(swapped),
        "nameless.dcm": dicom(other, SOPInstanceUID=None),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = [got for _, got in guarded([tmp_path / name for name in files])]
    instances = [None if isinstance(got, str) else got[0].instance for got in found]
    assert [name for name, one in zip(files, instances, strict=True) if not one] == [
        "broken.dcm", "c.png", "nameless.dcm",
    ]  # fmt: skip
    assert "1.2.3" not in repr(instances)  # an identifier leaves as a digest
    assert conflicts(instances) == [(0, 2), (0, 7)]
    assert conflicts([]) == []


def test_p11_slope_zero_is_marked(plain):
    (picture,) = plain(dicom(RescaleSlope=0, RescaleIntercept=7))
    assert picture.flags == ("rescale slope 0", "constant")
    assert not picture.pixels.any()


def test_p12_all_frames_in_order_and_scaled_alike(plain):
    frames = np.stack([RAMP // 4, RAMP // 2, RAMP, np.full_like(RAMP, 7)])
    got = plain(dicom(frames))
    assert [picture.frame for picture in got] == [0, 1, 2, 3]
    assert np.abs(np.stack([picture.pixels for picture in got]) - scaled(frames)).max() < 1e-6
    assert [picture.flags for picture in got] == [(), (), (), ("constant",)]


def test_p13_nothing_of_a_header_leaves(plain, tmp_path, caplog, recwarn, capfd):
    first, last = PHI.split(" ", 1)
    header = dataset(PatientName=first, PatientID=last, PatientAddress=PHI, InstitutionName=PHI)
    whole = written(header).replace(b"CS\x02\0DX", b"CS\x08\0DOE JANE")
    whole = whole.replace(b"DA\x08\00020210304", b"DA\x08\0ELM STR.")
    text = []
    for data in (written(header), whole, whole[:800], whole.replace(b"\x28\0\x10\0US", b"\x28\0\x10\0DS")):
        for read in (lambda path: read_images(path), fingerprint):
            (tmp_path / "x.dcm").write_bytes(data)
            try:
                text.append(repr(read(tmp_path / "x.dcm")))
            except UnreadableImageError as error:
                text.append(str(error))
                assert error.__suppress_context__ or error.__context__ is None
        text.append(repr(list(guarded([tmp_path / "x.dcm"]))))
    text += [str(w.message) for w in recwarn] + [caplog.text, *capfd.readouterr()]
    for word in ("DOE", "JANE", "4711", "Elm", "ELM"):
        assert word not in "".join(text)


def test_p15_truncated_and_misnamed(plain, reason):
    noise = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    whole = png(noise)
    assert reason(whole[: len(whole) // 2]) == "cut short"
    assert reason(png_of(10, 10, b"\0" + bytes(10) * 4)) == "cut short"  # Pillow makes the rest black
    assert reason(jpeg(noise)[:-300]) == "cut short or broken"
    (picture,) = plain(jpeg(noise), "a.png")
    assert picture.flags == ("name does not fit the content",)
    assert plain(jpeg(noise), "a.jpeg")[0].flags == plain(dicom(), "1.2.840.99")[0].flags == ()
    assert plain(dicom(), "a.gif")[0].flags == ("name does not fit the content",)
    assert plain(gzip.compress(whole), "a.png")[0].flags == ("name does not fit the content",)


def test_p16_sixteen_bits_stay_sixteen_bits(plain):
    values = np.uint16([[0, 1, 255], [256, 40000, 65535]])
    (picture,) = plain(png(values))
    assert np.abs(picture.pixels - values / 65535).max() < 1e-7
    assert len(np.unique(picture.pixels)) == 6
    deep = np.zeros((2, 1 + 6 * 2), np.uint8)
    assert plain(png_of(2, 2, deep.tobytes(), 16, 2))[0].flags == ("16 bit colour read as 8 bit", "constant")


def test_p17_alpha_constant_and_one_pixel(plain):
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    (picture,) = plain(png(colours))
    light = colours[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255
    assert np.abs(picture.pixels - light * colours[..., 3] / 255).max() < 1e-6
    assert picture.flags == ("transparent parts made black",)
    colours[..., 3] = 255
    assert plain(png(colours))[0].flags == ()
    assert np.array_equal(plain(npy(colours))[0].pixels, plain(png(colours))[0].pixels)
    assert plain(png(np.zeros((6, 6), np.uint8)))[0].flags == ("constant",)
    assert plain(png(np.uint8([[9]])))[0].flags == ("constant", "one pixel")
    grey = np.uint8([[10, 20, 30]])
    clear = png_of(3, 1, b"\0" + grey.tobytes(), more=chunk(b"tRNS", struct.pack(">H", 20)))
    assert np.abs(plain(clear)[0].pixels * 255 - [[10, 0, 30]]).max() < 1e-4
    deep = png_of(2, 1, b"\0\1\0\2\0", 16, more=chunk(b"tRNS", struct.pack(">H", 256)))
    assert np.abs(plain(deep)[0].pixels * 65535 - [[0, 512]]).max() < 1e-2


def test_p18_npy_holds_plain_finite_numbers(reason, tmp_path):
    marker = tmp_path / "marker"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    said = "npy of something else than plain numbers"
    assert reason(npy(np.array([[Trap()]], dtype=object), allow_pickle=True)) == said
    assert not marker.exists()
    assert reason(npy(np.array([[1.0, np.nan]]))) == "numbers that are not finite"
    assert reason(npy(np.array([[1.0, np.inf]]))) == "numbers that are not finite"
    assert reason(npy(np.array([[1j]]))) == reason(npy(np.array([["a"]]))) == said
    assert reason(npy(np.zeros((3, 3)))[:-1]) == "cut short"
    assert reason(npy(np.zeros(3))) == "npy of 1 axes, not 2 or 3"
    assert reason(npy(np.zeros((0, 3)))) == "no pixels"


@pytest.mark.parametrize("colours", [3, 4])
def test_npy_colours_stand_last_and_are_never_taken_for_slices(plain, reason, colours):
    array = np.random.default_rng(2).integers(0, 200, (9, 7, colours))
    array[..., 3:] = 255
    for dtype, most in ((np.uint8, 255), (np.uint16, 65535)):
        high = array * (most // 255)
        (picture,) = plain(npy(high.astype(dtype)))
        assert np.abs(picture.pixels - high[..., :3] @ [0.299, 0.587, 0.114] / most).max() < 1e-6
        assert picture.depth == 1
    said = "npy with a last axis of 3 or 4; save colours as uint8 or uint16, slices first"
    for dtype in (np.float32, np.float64, np.int16, np.uint32, bool):
        assert reason(npy(array.astype(dtype))) == reason(npy(array.astype(dtype)), mask=True) == said
        slices = plain(npy(np.moveaxis(array, -1, 0).astype(dtype)), slices=2)
        assert [(p.frame, p.depth, p.pixels.shape) for p in slices] == [
            (frame, colours, (9, 7)) for frame in ([0, 2] if colours == 3 else [1, 3])
        ]


CORPUS = {
    "dicom/pixeldata_short.dcm": "pixel data missing or cut short",
    "dicom/cut_mid_file.dcm": "pixel data missing or cut short",
    "dicom/empty.dcm": "not a DICOM file: it is empty",
    "dicom/text_renamed.dcm": "not a DICOM file",
    "dicom/no_preamble.dcm": "not a DICOM file: it lacks the preamble; bare=True reads it",
    "dicom/huge_dims_tiny_data.dcm": "declares more than 100 million pixels",
    "dicom/deflate_bomb_300MB.dcm": "DICOM without an image",
    "dicom/unknown_transfer_syntax.dcm": "transfer syntax 1.2.840.10008.1.9.9 is unknown; "
    "pip install 'gnnpatient[image]' reads JPEG, JPEG 2000 and RLE",
    "dicom/bad_dates.dcm": ("bad dates",),
    "dicom/rescale_slope_zero.dcm": ("rescale slope 0", "constant"),
    "dicom/phi_header.dcm": (),
    "dicom/ok_mono2.dcm": (),
    "png/bomb_30000x30000.png": "declares more than 100 million pixels",
    "png/truncated.png": "cut short",
    "png/jpeg_named.png": ("name does not fit the content",),
    "png/ok.png": (),
    "png/gray16.png": (),
    "png/rgba.png": ("transparent parts made black",),
    "png/all_black.png": ("constant",),
    "png/one_pixel.png": ("constant", "one pixel"),
    "png/nan_inf.npy": "numbers that are not finite",
    "png/object_pickled.npy": "npy of something else than plain numbers",
}


def test_the_corpus_does_as_it_says(faults_dir):
    files = [faults_dir / name for name in CORPUS if (faults_dir / name).exists()]
    assert files
    for i, got in guarded(files, ("none",), memory=100 << 20):
        wanted = CORPUS[str(files[i].relative_to(faults_dir))]
        assert (got if isinstance(got, str) else got[0].flags) == wanted, files[i].name
    assert not Path("/tmp/gnnpatient_marker_npy_public").exists()


def test_the_corpus_twins_frames_and_conflict(faults_dir):
    where = faults_dir / "dicom"
    right, other = (read_images(where / f"{n}.dcm")[0] for n in ("ok_mono2", "mono1_twin_of_ok"))
    assert np.abs(right.pixels - other.pixels).max() < 1e-6
    assert [p.frame for p in read_images(where / "multiframe3.dcm")] == [0, 1, 2]
    twins = [where / "ok_mono2.dcm", where / "dup_uid_a.dcm", where / "dup_uid_b_other_pixels.dcm"]
    assert conflicts([got[0].instance for _, got in guarded(twins)]) == [(1, 2)]
    grey = read_images(faults_dir / "png/gray16.png", ("none",))[0].pixels
    assert len(np.unique(grey)) > 256
    assert read_images(where / "no_preamble.dcm", bare=True)


# -- DICOM as it is meant to be shown -----------------------------------------------------------------------


def shown(values: np.ndarray, center: float, width: float, how: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, one value at a time."""
    out = []
    for x in values.ravel():
        if how == "SIGMOID":
            y = 1 / (1 + np.exp(min(-4 * (x - center) / width, 99)))
        elif how == "LINEAR_EXACT":
            y = 0 if x <= center - width / 2 else 1 if x > center + width / 2 else (x - center) / width + 0.5
        elif x <= center - 0.5 - (width - 1) / 2:
            y = 0
        else:
            y = 1 if x > center - 0.5 + (width - 1) / 2 else (x - (center - 0.5)) / (width - 1) + 0.5
        out.append(y)
    return np.array(out).reshape(values.shape)


@pytest.mark.parametrize("how", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("width", [1, 2, 400])
def test_rescale_then_window(plain, how, width):
    tags = {"WindowCenter": [-500, 0], "WindowWidth": [width, 9], "VOILUTFunction": how}
    (picture,) = plain(dicom(RescaleSlope=0.5, RescaleIntercept=-1024, **tags))
    assert np.abs(picture.pixels - shown(RAMP * 0.5 - 1024, -500, width, how)).max() < 1e-5


def test_a_window_without_sense_is_flagged(plain):
    (picture,) = plain(dicom(WindowCenter=0, WindowWidth=0))
    assert picture.flags == ("no usable window",)
    assert np.abs(picture.pixels - scaled(RAMP)).max() < 1e-6


def test_look_up_tables(plain):
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [4, 100, 8]
    table.add_new("LUTData", "US", [0, 51, 102, 255])
    (picture,) = plain(dicom(np.uint16([[0, 100, 101], [102, 103, 4000]]), VOILUTSequence=[table]))
    assert np.abs(picture.pixels - np.array([[0, 0, 0.2], [0.4, 1, 1]])).max() < 1e-6
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.add_new("LUTData", "US", [0, 100, 400, 800])
    (picture,) = plain(dicom(np.uint16([[0, 1, 2, 3]]), ModalityLUTSequence=[table]))
    assert np.abs(picture.pixels - np.array([[0, 0.125, 0.5, 1]])).max() < 1e-6


def group(name, **tags):
    """A functional group of frames: a sequence of one item with these tags."""
    from pydicom.dataset import Dataset

    inner, outer = Dataset(), Dataset()
    for tag, value in tags.items():
        setattr(inner, tag, value)
    setattr(outer, name, [inner])
    return outer


def test_functional_groups_of_all_frames_and_of_one(plain):
    shared = group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.25])
    each = [group("PixelValueTransformationSequence", RescaleSlope=s, RescaleIntercept=0) for s in (1, 2)]
    for one, width in zip(each, (1001, 2001), strict=True):
        one.FrameVOILUTSequence = group(
            "FrameVOILUTSequence", WindowCenter=width / 2, WindowWidth=width
        ).FrameVOILUTSequence
    header = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}
    first, second = plain(dicom(np.stack([RAMP, RAMP]), **header))
    assert np.abs(first.pixels - second.pixels).max() < 1e-6  # twice the slope, twice the window
    assert 0.2 < first.pixels.mean() < 0.9
    assert first.spacing == second.spacing == (0.5, 0.25)


def test_padding_is_black_and_does_not_stretch_the_range(plain):
    values = RAMP.astype(np.int16) + 1000
    values[:5] = -2000
    for photo in ("MONOCHROME1", "MONOCHROME2"):
        header = dataset(values, PhotometricInterpretation=photo)
        header.add_new("PixelPaddingValue", "SS", -2000)
        (picture,) = plain(written(header))
        assert not picture.pixels[:5].any()
        right = scaled(values[5:])
        assert np.abs(picture.pixels[5:] - (1 - right if photo == "MONOCHROME1" else right)).max() < 1e-6


@pytest.mark.parametrize("bits", [16, 12])
@pytest.mark.parametrize("photo", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_has_the_sign_of_the_pixels_whatever_its_vr(plain, bits, photo):
    """PS3.3 C.7.5.1.1.2; a range likewise, and the unsigned number of a signed VR."""
    signed = (RAMP % 2000).astype(np.int16)
    signed[:5], signed[5:9] = -2000, -1990
    unsigned = RAMP.copy()
    unsigned[:5], unsigned[5:9] = 63536, 63546
    about = {"PhotometricInterpretation": photo, "BitsStored": bits, "HighBit": bits - 1}

    def read(pixels, vr, value, limit, **tags):
        header = dataset(pixels, **about | tags)
        header.add_new("PixelPaddingValue", vr, value)
        header.add_new("PixelPaddingRangeLimit", vr, limit)
        return plain(written(header))[0]

    right = read(signed, "SS", -2000, -1990)
    assert not right.pixels[:9].any() and right.flags == ()
    assert np.array_equal(read(signed, "US", 63536, 63546).pixels, right.pixels)
    if bits == 12:  # without the bits above its sign
        assert np.array_equal(read(signed, "US", 2096, 2106).pixels, right.pixels)
    whole = {"BitsStored": 16, "HighBit": 15}
    right = read(unsigned, "US", 63536, 63546, **whole)
    assert not right.pixels[:9].any()
    assert np.array_equal(read(unsigned, "SS", -2000, -1990, **whole).pixels, right.pixels)


def test_a_look_up_table_begins_with_the_sign_of_what_it_maps(plain):
    from pydicom.dataset import Dataset

    def read(first, signed):
        table = Dataset()
        table.add_new("LUTDescriptor", "SS" if signed else "US", [4, first, 8])
        table.add_new("LUTData", "US", [0, 51, 102, 255])
        values = np.int16([[-3000, -1024, -1023], [-1022, -1021, 3000]])
        return plain(dicom(values, VOILUTSequence=[table]))[0].pixels

    assert np.array_equal(read(-1024, True), read(64512, False))
    assert np.abs(read(64512, False) - np.array([[0, 0, 0.2], [0.4, 1, 1]])).max() < 1e-6


def raw(**tags):
    """A DICOM file with decimal strings as they stand, of any sense."""
    header = dataset()
    for name, text in tags.items():
        header.add_new(name, "LO", text)
    data = written(header)
    for name, text in tags.items():
        at = data.index(struct.pack("<HH2s", *divmod(header[name].tag, 1 << 16), b"LO"))
        assert text
        data = data[: at + 4] + (b"IS" if name == "NumberOfFrames" else b"DS") + data[at + 6 :]
    return data


def test_a_comma_in_a_decimal_string_is_a_point(plain):
    lies = {"PixelSpacing": "{}\\{}", "ImagePositionPatient": "{}\\-1{}\\7"}
    for tags in (
        {"RescaleSlope": "1{}", "RescaleIntercept": "-10{}"},
        {"WindowCenter": "800{}\\3", "WindowWidth": "400{}\\4"},
        lies | {"ImageOrientationPatient": "1{}\\0\\0\\0\\1\\0"},
        {"ImagerPixelSpacing": "{}\\0{}"},
        {"NumberOfFrames": "1{}"},
    ):
        end = {"NumberOfFrames": ("", ",0"), "ImageOrientationPatient": (".0", ",0")}
        point, comma = (
            plain(
                raw(
                    **{
                        name: text.replace("{}", end.get(name, (".5", ",5"))[i])
                        for name, text in tags.items()
                    }
                )
            )
            for i in range(2)
        )
        assert point[0].flags == comma[0].flags == () and np.array_equal(point[0].pixels, comma[0].pixels)
        assert point[0].spacing == comma[0].spacing and np.array_equal(point[0].place, comma[0].place)
    assert point[0].spacing is None


@pytest.mark.parametrize("text", ["-1O", "1,2,3", "one", "1e999", "nan", "1 000"])
def test_what_is_no_number_is_told_by_its_attribute(plain, reason, text):
    assert reason(raw(RescaleIntercept=text)) == "RescaleIntercept is no number"
    assert reason(raw(RescaleSlope=text)) == "RescaleSlope is no number"
    assert reason(raw(NumberOfFrames=text)) == "NumberOfFrames is no number"
    (picture,) = plain(raw(WindowCenter="40", WindowWidth=text))
    assert picture.flags == ("no usable window", "WindowWidth is no number")
    (picture,) = plain(raw(PixelSpacing=f"0.5\\{text}"))
    assert picture.flags == ("PixelSpacing is no number",) and picture.spacing is None
    whole = {"ImageOrientationPatient": "1\\0\\0\\0\\1\\0", "PixelSpacing": "1\\1"}
    (picture,) = plain(raw(ImagePositionPatient=f"1\\{text}\\2", **whole))
    assert picture.flags == ("ImagePositionPatient is no number",) and picture.place is None


def test_spacing(plain):
    assert plain(dicom(PixelSpacing=[0.5, 0.7]))[0].spacing == (0.5, 0.7)
    assert plain(dicom(ImagerPixelSpacing=[0.1, 0.1]))[0].spacing == (0.1, 0.1)
    assert plain(dicom(PixelSpacing=[0, 0.7]))[0].spacing is None


def test_a_dicom_slice_lies_where_its_nifti_does(plain):
    told = {"ImagePositionPatient": [-80, -120, 37.5], "PixelSpacing": [0.5, 0.7]}
    axial = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}  # rows run to the left, columns to the back
    (picture,) = plain(dicom(**told, **axial))
    affine = np.array([[-0.7, 0, 0, 80], [0, -0.5, 0, 120], [0, 0, 3, 37.5], [0, 0, 0, 1]])
    (same,) = plain(nifti(RAMP.T[:, :, None].copy(), affine))
    assert np.abs(picture.pixels - same.pixels).max() < 1e-6
    assert np.abs(picture.place - same.place).max() < 1e-4
    turned = plain(dicom(**told, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))[0].place
    assert np.abs(turned - [[80, 120, 37.5], [0, 0, -0.5], [0, -0.7, 0]]).max() < 1e-6
    for tags in (told, axial, {**axial, **told, "ImagePositionPatient": [1, 2]}, {}):
        assert plain(dicom(**tags))[0].place is None


def test_frames_lie_where_their_own_groups_say(plain):
    shared = group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.update(group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.25]))
    each = [group("PlanePositionSequence", ImagePositionPatient=[1, 2, z]) for z in (3, 8, 10)]
    header = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}
    frames = np.stack([RAMP] * 3)
    for picture, z in zip(plain(dicom(frames, **header)), (3, 8, 10), strict=True):
        assert picture.place.tolist() == [[-1, -2, z], [0, -0.5, 0], [-0.25, 0, 0]] and picture.depth == 3
    del each[1].PlanePositionSequence
    assert {picture.place for picture in plain(dicom(frames, **header))} == {None}


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"])
def test_compressed_without_loss_gives_the_same(plain, reason, syntax):
    header = dataset(np.stack([RAMP, RAMP[::-1]]))
    whole = written(header)
    header.compress(syntax)
    packed = written(header)
    for one, other in zip(plain(whole), plain(packed), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
    assert reason(packed[:-40]) in ("pixel data missing or cut short", "broken DICOM")
    header.NumberOfFrames = 3
    assert reason(written(header)) in ("pixel data missing or cut short", "broken DICOM")
    header.NumberOfFrames, header.Rows = 2, 47
    said = "broken DICOM" if syntax.endswith(".5") else "a compressed frame has another size than the header"
    assert reason(written(header)) == said


def test_jpeg_inside_dicom(plain, reason):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    grey = (RAMP // 16).astype(np.uint8)
    header = dataset(grey)
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    header.PixelData = encapsulate([jpeg(grey)])
    header["PixelData"].is_undefined_length = True
    (picture,) = plain(written(header))
    assert np.abs(picture.pixels - scaled(grey)).max() < 0.02
    header.PixelData = encapsulate([jpeg(np.zeros((3000, 3000), np.uint8))])
    assert reason(written(header)) == "a compressed frame has another size than the header"


def test_colours_become_luminance(plain):
    colours = np.random.default_rng(2).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "Rows": 6, "Columns": 5}
    header = dataset(colours, **tags, NumberOfFrames=1)
    header.PlanarConfiguration = 0
    (picture,) = plain(written(header))
    assert np.abs(picture.pixels - colours @ np.array([0.299, 0.587, 0.114]) / 255).max() < 1e-6
    assert np.array_equal(picture.pixels, plain(png(colours))[0].pixels)


def test_deflated_reads_like_plain(plain, reason):
    inside = body(dataset())
    assert np.array_equal(plain(deflated(inside))[0].pixels, plain(dicom())[0].pixels)
    assert reason(deflated(inside)[:-20]) in ("cut short", "broken DICOM")
    assert reason(deflated(inside[:-50])) == "pixel data missing or cut short"


# -- stills and volumes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(plain, orientation):
    from PIL import Image, ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, exif=exif)
    right = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.abs(plain(data)[0].pixels * 255 - right).max() < 1e-4


def test_interlaced_palette_and_bilevel(plain, reason):
    from PIL import Image

    grey = np.random.default_rng(3).integers(0, 256, (9, 13), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(grey).convert("P").save(out, "PNG")
    assert np.abs(plain(out.getvalue())[0].pixels * 255 - grey).max() < 1e-3
    out = io.BytesIO()
    Image.fromarray(grey > 99).save(out, "PNG")
    assert np.array_equal(plain(out.getvalue())[0].pixels, grey > 99)
    # Adam7 of a 9 x 9 picture, all of one grey: 15 rows in seven passes
    passes = [(2, 2), (1, 2), (3, 1), (2, 3), (5, 2), (4, 5), (9, 4)]
    raw = b"".join((b"\0" + b"\x80" * wide) * high for wide, high in passes)
    whole = png_of(9, 9, raw)
    whole = whole.replace(whole[8:33], chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 1)))
    assert np.allclose(plain(whole)[0].pixels, 128 / 255)
    short = png_of(9, 9, raw[:-1])
    short = short.replace(short[8:33], chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 1)))
    assert reason(short) == "cut short"


def test_npy_stills_slices_and_types(plain):
    deep = np.arange(10 * 3 * 5).reshape(10, 3, 5)
    got = plain(npy(deep.astype(np.int32)), slices=2)
    assert [p.frame for p in got] == [2, 7]
    assert np.abs(np.stack([p.pixels for p in got]) - scaled(deep[[2, 7]])).max() < 1e-6
    assert len(plain(npy(deep.astype(np.int32)), slices=99)) == 10
    for order in "CF":
        still = np.asarray(RAMP, order=order)
        assert np.abs(plain(npy(still))[0].pixels - RAMP / 65535).max() < 1e-6
    assert np.abs(plain(npy(RAMP.astype(">f8") - 9))[0].pixels - scaled(RAMP)).max() < 1e-6
    assert np.array_equal(plain(npy(RAMP > 999))[0].pixels, RAMP > 999)


BODY = np.random.default_rng(4).integers(-999, 999, (7, 6, 12)).astype(np.int16)  # right, front, head


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_a_volume_gives_the_same_slices_however_it_is_stored(plain, two, axes, flips):
    size = np.array([0.5, 0.75, 3.0])
    stored = BODY.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for i, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[axis, i] = size[axis] * flip
    affine[:3, 3] = 5, -7, 11
    got = plain(nifti(np.ascontiguousarray(stored), affine, two=two), slices=3)
    assert [p.frame for p in got] == [2, 6, 10]
    right = scaled(BODY[:, :, [2, 6, 10]])[::-1, ::-1].transpose(2, 1, 0)  # front up, the right on the left
    assert np.abs(np.stack([p.pixels for p in got]) - right).max() < 1e-6
    assert got[0].spacing == (0.75, 0.5) and {p.depth for p in got} == {12}
    for picture in got:  # what lies where a pixel says it lies is what it shows
        pixel = np.stack([np.ones(picture.pixels.shape), *np.indices(picture.pixels.shape)], axis=-1)
        voxel = (pixel @ picture.place - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        there = stored[tuple(np.moveaxis(np.rint(voxel).astype(int), -1, 0))]
        low, high = BODY[:, :, [2, 6, 10]].min(), BODY[:, :, [2, 6, 10]].max()
        assert np.abs(voxel - np.rint(voxel)).max() < 1e-4
        assert np.abs((there - low) / (high - low) - picture.pixels).max() < 1e-6


def test_slices_lie_along_the_thickest_voxels(plain):
    assert len(plain(nifti(BODY, np.diag([5, 1, 1, 1])), slices=99)) == 7
    assert len(plain(nifti(BODY, np.diag([1, 2, 1, 1])), slices=99)) == 6
    assert len(plain(nifti(BODY), slices=99)) == 12  # equal: axial
    (flat,) = plain(nifti(BODY[:, :1]), slices=99)
    assert flat.pixels.shape == (12, 7)
    (still,) = plain(nifti(BODY[:, :, 0]))
    assert still.pixels.shape == (6, 7)


def test_nifti_scale_unit_series_and_faults(plain, reason):
    whole = nifti(BODY)
    assert plain(whole)[0].spacing == (1, 1)
    assert plain(nifti(BODY, unit="unknown"))[0].spacing is None
    assert plain(nifti(BODY, unit="micron"))[0].spacing == (0.001, 0.001)
    for unit, side in (("micron", 0.001), ("mm", 1), ("unknown", 1), ("meter", 1000)):
        assert np.allclose(plain(nifti(BODY, unit=unit))[0].place[1:], [[0, -side, 0], [-side, 0, 0]])
    series = np.stack([BODY, BODY * 0, BODY], axis=-1)
    got = plain(nifti(series), slices=1)
    assert got[0].flags == ("first of several volumes",)
    assert np.array_equal(got[0].pixels, plain(whole, slices=1)[0].pixels)
    assert np.array_equal(plain(gzip.compress(whole), "a.nii.gz")[3].pixels, plain(whole, "a.nii")[3].pixels)
    assert plain(gzip.compress(whole), "a.nii.gz")[0].flags == ()
    assert plain(whole, "a.nii.gz")[0].flags == ("name does not fit the content",)
    assert reason(whole[:-1]) == reason(gzip.compress(whole[:-1])) == "cut short"
    assert reason(gzip.compress(whole)[:-30]) == "cut short"
    assert (
        reason(nifti(np.where(BODY > 900, np.nan, BODY).astype(np.float32))) == "numbers that are not finite"
    )
    assert reason(whole[:344] + b"ni1\0" + whole[348:]).startswith("NIfTI whose numbers are in another file")
    untold = whole[:252] + struct.pack("<hh", 0, 0) + whole[256:]
    assert plain(untold)[0].flags == ("orientation unknown",)
    for code in ((1, 0), (0, 1)):
        assert plain(whole[:252] + struct.pack("<hh", *code) + whole[256:])[0].flags == ()
    turned = np.abs(plain(nifti(BODY, slope=(-2, 5)), slices=1)[0].pixels + got[0].pixels - 1)
    assert turned.max() < 1e-6


# -- steps --------------------------------------------------------------------------------------------------


def test_stretch_is_of_the_whole_file(tmp_path):
    frames = np.random.default_rng(5).integers(0, 4000, (3, 30, 20)).astype(np.uint16)
    frames[1] //= 8
    (tmp_path / "a.dcm").write_bytes(dicom(frames))
    got = np.stack([p.pixels for p in read_images(tmp_path / "a.dcm")])
    low, high = np.percentile(frames, (1, 99))
    assert np.abs(got - np.clip((frames - low) / (high - low), 0, 1)).max() < 1e-5
    assert got[1].max() < 0.2  # a dark frame stays dark
    one = np.zeros((30, 20), np.uint8)
    one[3, 3] = 9
    (tmp_path / "a.png").write_bytes(png(one))
    assert np.array_equal(read_images(tmp_path / "a.png")[0].pixels, one / 9)


def test_clahe_equalises_and_stays_in_range(tmp_path):
    from skimage.exposure import equalize_adapthist

    grey = np.random.default_rng(6).integers(100, 120, (64, 48), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(grey))
    (got,) = read_images(tmp_path / "a.png", ("clahe",))
    assert np.abs(got.pixels - equalize_adapthist(scaled(grey).astype(np.float32))).max() < 1e-6
    assert got.pixels.min() >= 0 and got.pixels.max() <= 1
    for shape in ((1, 1), (1, 9), (2, 2), (9, 9)):
        for value in (0, 1):
            (tmp_path / "b.npy").write_bytes(npy(value * np.arange(np.prod(shape)).reshape(shape)))
            (small,) = read_images(tmp_path / "b.npy", ("stretch", "clahe"))
            assert np.isfinite(small.pixels).all() and small.pixels.shape == shape


def test_an_unknown_step_is_refused(tmp_path):
    for call in (
        lambda: read_images(tmp_path / "a", ("strech",)),
        lambda: next(guarded([tmp_path / "a"], ("strech",))),
    ):
        with pytest.raises(InputError, match="'strech' of the images is unknown; did you mean 'stretch'"):
            call()
    with pytest.raises(InputError, match="slices = 0"):
        read_images(tmp_path / "a", slices=0)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(dicom())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r"pydicom; pip install 'gnnpatient\[image\]'"):
        read_images(tmp_path / "a.dcm")


def test_each_file_of_the_folder_imports_only_what_comes_before_it():
    folder = Path(base.__file__).parent
    order = [["base"], ["steps", "files"], ["raster", "npy", "nifti", "dicom"], ["read"], ["worker"]]
    assert {path.stem for path in folder.glob("*.py")} == {
        "__init__",
        *(name for level in order for name in level),
    }
    for i, level in enumerate(order):
        before = {name for names in order[:i] for name in names}
        for name in level:
            text = (folder / f"{name}.py").read_text()
            ours = set(re.findall(r"from gnnpatient\.content\.image\.(\w+) import", text))
            ours |= set(re.findall(r"from gnnpatient\.content\.image import (\w+)", text))
            assert ours <= before, name


def test_reading_loads_no_torch():
    loads = "{'torch', 'polars', 'jaxtyping', 'PIL', 'pydicom'} & {*sys.modules}"
    code = f"import sys, gnnpatient.content.image.worker; print({loads})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "set()\n"


# -- paths --------------------------------------------------------------------------------------------------


def test_p29_p30_no_name_leads_out(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a..png").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (root / "out").symlink_to(tmp_path)
    (root / "link").symlink_to(root / "in")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    monkeypatch.setenv("HOME", str(root))
    assert locate(root, "in/a..png") == locate(root, "link/a..png") == root / "in" / "a..png"
    outside = [
        "../secret",
        "in/../../secret",
        "in/../in/a..png",
        "/etc/passwd",
        str(root / "in/a..png"),
        "~",
        "~/in",
    ]
    outside += ["..", "out/secret", "out/none", "..\\secret", "C:\\x", "\\\\host\\x", "~root/x"]
    for name in outside:
        with pytest.raises(UnreadableImageError, match=r"^leads out of the folder$"):
            locate(root, name)
    for name in ("none.png", "", " ", "a\0b", "x" * 5000, "in/a..png/b", "loop"):
        with pytest.raises(UnreadableImageError, match=r"^no such file$"):
            locate(root, name)
    for name in ("in", "pipe", "."):
        with pytest.raises(UnreadableImageError, match=r"^not a file$"):
            locate(root, name)
        with pytest.raises(UnreadableImageError, match=r"^not a file$"):
            read_images(root / name)
    with pytest.raises(UnreadableImageError, match=r"^no such file$"):
        fingerprint(root / "none.png")


def test_fingerprint(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180-2
    assert fingerprint(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


# -- laws ---------------------------------------------------------------------------------------------------

WHOLE = {
    "png": lambda: png(np.random.default_rng(7).integers(0, 256, (9, 8, 4), dtype=np.uint8)),
    "jpeg": lambda: jpeg(np.random.default_rng(7).integers(0, 256, (16, 8), dtype=np.uint8)),
    "dicom": lambda: dicom(RAMP[:6, :5], WindowCenter=50, WindowWidth=90, PatientName="DOE^JANE"),
    "nifti": lambda: nifti(BODY[:3, :4, :5]),
    "npy": lambda: npy(RAMP[:4, :4].astype(np.float32)),
    "gzip": lambda: gzip.compress(nifti(BODY[:3, :4, :5])),
    "deflated": lambda: deflated(body(dataset(RAMP[:6, :5]))),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whatever_is_broken_gives_pictures_or_a_reason(tmp_path, kind):
    whole, path = WHOLE[kind](), tmp_path / "x"

    @settings(max_examples=150)
    @given(
        st.integers(0, len(whole)), st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(max_size=4)))
    )
    def law(cut, changes):
        data = bytearray(whole)
        for at, new in changes:
            data[at : at + len(new)] = new
        path.write_bytes(data[:cut] if cut > 4 else data)
        try:
            pictures = read_images(path, ("stretch", "clahe"), slices=2)
        except UnreadableImageError as error:
            assert len(str(error)) < 200 and "DOE" not in str(error) and str(path) not in str(error)
        else:
            for p in pictures:
                assert p.pixels.dtype == np.float32 and 0 <= p.pixels.min() <= p.pixels.max() <= 1

    law()


@pytest.mark.parametrize("kind", ["dicom", "nifti", "npy", "png", "gzip"])
def test_no_cut_goes_unnoticed(tmp_path, kind):
    whole, path = WHOLE[kind](), tmp_path / "x"
    tail = 20 if kind == "png" else 0  # the end of a PNG holds only sums: all pixels are there
    for size in range(0, len(whole) - tail, 3):
        path.write_bytes(whole[:size])
        with pytest.raises(UnreadableImageError):
            read_images(path)


# -- many ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    files = {
        "0.png": png(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        "1.png": b"\x89PNG\r\n\x1a\n",
        "2.dcm": dicom(np.stack([RAMP, RAMP // 2]), PixelSpacing=[0.5, 0.25]),
        "3.nii": nifti(BODY),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [*(tmp_path / name for name in files), tmp_path / "4.none"]


def test_guarded_gives_what_reading_gives_in_order(folder):
    told = []
    got = list(guarded(folder, ("stretch",), slices=2, progress=lambda _, *n: told.append(n)))
    assert [i for i, _ in got] == [0, 1, 2, 3, 4]
    assert told == [(i, 5) for i in range(1, 6)]
    for path, (_, answer) in zip(folder, got, strict=True):
        try:
            right = read_images(path, slices=2)
        except UnreadableImageError as error:
            assert answer == str(error)
        else:
            for one, other in zip(right, answer, strict=True):
                assert np.array_equal(one.pixels, other.pixels) and other.pixels.flags.writeable
                assert np.array_equal(one.place, other.place)
                assert [one.flags, one.spacing, one.frame, one.depth, one.instance] == [
                    other.flags, other.spacing, other.frame, other.depth, other.instance,
                ]  # fmt: skip
    assert list(guarded([])) == []


@pytest.fixture
def large(folder):
    """81 million pixels between two small files."""
    path = folder[0].with_name("large.png")
    path.write_bytes(png_of(9000, 9000, bytes(9001 * 9000)[:-1] + b"\1"))
    return [folder[0], path, folder[2]]


def test_a_file_that_takes_too_much_memory_costs_itself(large):
    first, full, last = (answer for _, answer in guarded(large, memory=200 << 20))
    assert full == "took over 0.195 GB"
    assert len(first) == 1 and len(last) == 2


def test_what_one_file_took_does_not_count_for_the_next(tmp_path):
    """Pixels of 100 MB as they are handed over; with those of the file before, decoding would take 270 MB."""
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.arange(25_000_000, dtype=np.uint16).reshape(5000, 5000))
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    kept = [got if isinstance(got, str) else len(got) for _, got in guarded(files, (), memory=220 << 20)]
    assert kept == [1, 1, 1]


@pytest.mark.slow
def test_a_file_that_takes_too_long_costs_itself(large):
    """Equalising takes half a minute; the limit leaves a busy machine time for the other two."""
    first, late, last = (answer for _, answer in guarded(large, ("clahe",), seconds=5, memory=16 << 30))
    assert late == "took over 5 s"
    assert len(first) == 1 and len(last) == 2


def test_a_decoder_that_dies_costs_one_file(folder):
    worker = Worker({"steps": [], "slices": 2, "mask": False, "seconds": 20.0, "memory": 2 << 30})
    assert len(worker.read(folder[0])) == 1
    os.kill(worker.process.pid, signal.SIGSEGV)
    assert worker.read(folder[0]) == "decoder crashed"
    assert len(worker.read(folder[2])) == 2
    worker.stop()
    assert worker.read(folder[0]) == "stopped" and worker.process is None


def children() -> set[str]:
    return {p.parent.name for p in Path("/proc").glob("[0-9]*/stat") if f" {os.getpid()} " in _stat(p)}


def _stat(path: Path) -> str:
    try:
        return " ".join(path.read_text().rpartition(")")[2].split()[1:2]).join("  ")
    except OSError:
        return ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_no_process_is_left(folder):
    before = children()
    some = guarded(folder * 50)
    next(some)
    assert len(children() - before) >= 1
    some.close()
    assert children() == before


def test_a_worker_ends_with_its_parent(folder):
    code = (
        f"import os, signal, sys; from pathlib import Path\n"
        f"from gnnpatient.content.image.worker import Worker\n"
        f"w = Worker(dict(steps=[], slices=1, mask=False, seconds=20.0, memory=2 << 30))\n"
        f"w.read(Path({str(folder[0])!r})); print(w.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(run.stdout)
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the worker lives on")


# -- real ---------------------------------------------------------------------------------------------------


def test_real_samples(data_dir):
    folder = data_dir / "dicom-nifti-samples"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")
    got = {files[i].name: answer for i, answer in guarded(files)}
    assert got.pop("DICOMDIR") == "DICOM without an image"
    assert not [name for name, answer in got.items() if isinstance(answer, str)]
    assert np.array_equal(got["MR_small.dcm"][0].pixels, got["MR_small_RLE.dcm"][0].pixels)
    assert len(got["philips_mprage.dcm.gz"]) == 176
    assert got["CT_small.dcm"][0].place is not None and got["6154"][0].place is None  # a radiograph


@pytest.mark.slow
def test_real_radiographs(data_dir):
    files = sorted((data_dir / "covid-cxr" / "images").iterdir())
    pictures = 0
    for _, answer in guarded(files):
        assert not isinstance(answer, str)
        pictures += len(answer)
        assert 0 <= answer[0].pixels.min() < answer[0].pixels.max() <= 1
    assert pictures == len(files)
