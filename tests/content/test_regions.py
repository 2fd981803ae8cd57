"""Measurements of pictures as nodes: the library's own by `measures`, another tool's from its tables."""

import math

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

pytest.importorskip("PIL")
pytest.importorskip("skimage")
nibabel = pytest.importorskip("nibabel")

TOML = """
cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
[nodes.image]
table = "images.csv"
time = "day"
known = "known"
file = "path"
embed = "handmade"
steps = ["none"]
study = "acc"
[nodes.lesion]
measures = "image"
region = "mask"
edges = ["at", "same"]
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""
FRAME = """
[nodes.frame]
measures = "image"
"""
TOOLS = """
[nodes.radiomics]
table = "radiomics.csv"
time = "day"
known = "done"
study = "acc"
columns = { "original_*" = "" }
edges = ["at", { measures = "image", by = "study" }]
[nodes.segment]
table = "segments.csv"
time = "day"
study = "acc"
code = "name"
value = "number"
unit = "unit"
edges = ["at", { measures = "image", by = "study" }]
"""
HEADS = {
    "radiomics": "pid,day,done,acc,diagnostics_Versions,original_firstorder_Mean,original_shape_Volume",
    "segments": "pid,day,acc,name,number,unit",
}
TABLES = {"radiomics": "a,DAY,DAY,s1,x,7.5,20", "segments": "a,DAY,s1,area,7.5,mm2"}
SIDE = 48
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
BOX = (20, 10)  # rows, columns
SPACING = (2.0, 0.5)  # mm between rows, between columns


def disc(radius: float) -> np.ndarray:
    return np.hypot(ROWS - 24, COLUMNS - 24) <= radius


def box() -> np.ndarray:
    out = np.zeros((SIDE, SIDE), bool)
    out[5 : 5 + BOX[0], 7 : 7 + BOX[1]] = True
    return out


def png(path, pixels) -> None:
    from PIL import Image

    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def nifti(path, pixels, spacing=SPACING) -> None:
    """One slice, as the reader shows it: its axes go to the right and to the head."""
    volume = np.asarray(pixels, np.float32)[::-1, ::-1].T[:, None, :]
    image = nibabel.Nifti1Image(volume, np.diag([spacing[1], 9.0, spacing[0], 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def draw(folder, more=(), shuffle: int | None = None, toml: str = TOML, volume: bool = True) -> pl.DataFrame:
    """Patient a: a disc that grows, as PNG; patient b: a box, as NIfTI with spacing; c has nothing.

    Without a volume b's are PNG, too: each process that decodes would load nibabel, for half a second.
    """
    for day, radius in ((0, 8), (4, 12)):
        png(folder / f"a{day}.png", np.where(disc(radius), 64 + day, 10))
        png(folder / f"a{day}-mask.png", disc(radius) * 255)
    save, ending = (nifti, "nii") if volume else (png, "png")
    save(folder / f"b.{ending}", np.where(box(), 3.0, ROWS / SIDE))
    save(folder / f"b-mask.{ending}", box())
    rows = [
        ("a", 0.0, 0.5, "a0.png", "a0-mask.png", "s1"),
        ("a", 4.0, 4.5, "a4.png", "a4-mask.png", "s1"),
        ("b", 1.0, 1.0, f"b.{ending}", f"b-mask.{ending}", "s2"),
        *more,
    ]
    names = ["pid", "day", "known", "path", "mask", "acc"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    if shuffle is not None:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=shuffle)
    frame.write_csv(folder / "images.csv")
    (folder / "patients.csv").write_text("pid,end,died\na,30,1\nb,40,0\nc,20,1\n")
    (folder / "c.toml").write_text(toml)
    return frame


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """What `draw` draws, with the whole pictures measured too."""
    from gnnpatient import read_cohort

    folder = tmp_path_factory.mktemp("regions")
    draw(folder, toml=TOML + FRAME)
    return read_cohort(folder / "c.toml", folder)


@pytest.fixture
def reads(tmp_path):
    from gnnpatient import read_cohort

    def read(**how):
        return read_cohort(tmp_path / "c.toml", tmp_path, **how)

    return read


def values(cohort, kind: str, day: float, patient: str) -> dict[tuple[str, float], float]:
    """What the graph of one ask says: {(code, age in days): value}."""
    from gnnpatient import build_graphs

    nodes = build_graphs(cohort.at(day, patient=patient))[kind]
    names = [cohort.codes[kind][code] for code in nodes.code]
    found = {
        (name, age): value
        for name, age, value in zip(names, nodes.age.tolist(), nodes.value.tolist(), strict=True)
    }
    assert len(found) == len(nodes)
    return found


def test_shapes_of_known_size_from_the_file_to_the_graph(cohort, tmp_path):
    from gnnpatient import open_cohort

    for one in (cohort, open_cohort(cohort.save(tmp_path / "packed"))):
        said = values(one, "lesion", 5, "a")
        for age, radius, grey in ((5.0, 8, 64), (1.0, 12, 68)):
            assert said["area_px", age] == disc(radius).sum()
            assert said["diameter_px", age] == pytest.approx(2 * math.sqrt(disc(radius).sum() / math.pi))
            assert said["mean", age] == pytest.approx(grey / 255) and said["sd", age] == pytest.approx(0)
            assert said["parts", age] == 1 and ("skew", age) not in said  # not defined: no node
        assert not any(name == "area" for name, _ in said)
        said = values(one, "lesion", 5, "b")
        down, across = SPACING
        sides = 2 * ((BOX[0] - 1) * down + (BOX[1] - 1) * across)  # the contour cuts the four corners
        assert said["area", 4.0] == BOX[0] * BOX[1] * down * across
        assert said["perimeter", 4.0] == pytest.approx(sides + 4 * math.hypot(down / 2, across / 2))
        assert said["mean", 4.0] == 1 and not any(name.endswith("_px") for name, _ in said)
        units = dict(zip(one.codes["lesion"], one.units["lesion"], strict=True))
        assert (units["area"], units["area_px"], units["perimeter"], units["solidity"]) == (
            "mm2",
            "px2",
            "mm",
            "",
        )
        assert not values(one, "lesion", 5, "c")


def test_without_a_region_the_whole_picture_is_measured(cohort):
    said = values(cohort, "frame", 5, "a")
    inside = disc(8).sum() / SIDE**2
    assert said["area_px", 5.0] == SIDE**2
    assert said["mean", 5.0] == pytest.approx((64 * inside + 10 * (1 - inside)) / 255)
    assert values(cohort, "frame", 5, "b")["area", 4.0] == SIDE**2 * SPACING[0] * SPACING[1]


def test_a_measurement_is_known_and_joined_as_its_picture(cohort):
    from gnnpatient import build_graphs

    for day, pictures in ((0.4, 0), (0.5, 1), (4.4, 1), (4.5, 2)):
        graphs = build_graphs(cohort.at(day, patient="a"))
        assert len(graphs["image"]) == pictures
        source, target = graphs.edges["lesion", "measures", "image"]
        assert source.tolist() == list(range(len(graphs["lesion"])))  # each has one picture
        assert target.unique().tolist() == list(range(pictures))  # though both are of one study
        assert (graphs["lesion"].age[source] == graphs["image"].age[target]).all()
        assert (graphs["lesion"].row[source] == graphs["image"].row[target]).all()
        back = graphs.edges["image", "rev_measures", "lesion"]
        assert back.tolist() == [target.tolist(), source.tolist()]
        same = graphs.edges["lesion", "same", "lesion"]
        assert (graphs["lesion"].code[same[0]] == graphs["lesion"].code[same[1]]).all()
        assert same.shape[1] == (len(graphs["lesion"]) // 2 if pictures == 2 else 0)
    many = build_graphs(cohort.at(9, patient=["a", "b", "c", "a"] * 12))
    source, target = many.edges["lesion", "measures", "image"]
    assert (many["lesion"].owner[source] == many["image"].owner[target]).all()
    assert len(source) == len(many["lesion"])


def test_the_future_cannot_be_seen(reads, tmp_path):
    from gnnpatient import build_graphs

    draw(tmp_path, toml=TOML + TOOLS)
    for name, row in TABLES.items():
        late = row.replace("DAY", "4.5")
        (tmp_path / f"{name}.csv").write_text(f"{HEADS[name]}\n{row.replace('DAY', '0.5')}\n{late}\n")
    before = reads()
    png(tmp_path / "a4.png", np.where(box(), 255, 0))
    png(tmp_path / "a4-mask.png", box() * 1)
    for name, row in TABLES.items():
        late = row.replace("DAY", "4.5").replace("7.5", "1e9").replace("s1", "s2")
        (tmp_path / f"{name}.csv").write_text(f"{HEADS[name]}\n{row.replace('DAY', '0.5')}\n{late}\n")
    after = reads()
    for kind in ("lesion", "radiomics", "segment"):
        assert values(before, kind, 5, "a") != values(after, kind, 5, "a")
        for day in (0.2, 0.5, 4.0, 4.499):
            assert values(before, kind, day, "a") == values(after, kind, day, "a")
    for day in (0.2, 0.5, 4.0, 4.499):
        one, two = (build_graphs(cohort.at(day, patient=["a", "b"])) for cohort in (before, after))
        for edge, pairs in one.edges.items():
            assert pairs.equal(two.edges[edge]), edge


def test_the_order_of_rows_is_nothing(reads, tmp_path):
    draw(tmp_path)
    one = reads()
    draw(tmp_path, shuffle=3)
    two = reads()
    for kind in ("image", "lesion"):
        for name, column in one.events[kind].columns().items():
            assert column.tobytes() == two.events[kind].columns()[name].tobytes(), (kind, name)


def test_a_bad_mask_costs_its_measurements_and_is_counted(reads, tmp_path):
    from PIL import Image

    good = draw(tmp_path)
    Image.fromarray((disc(8) * 255).astype(np.uint8)).save(tmp_path / "lossy.jpg")
    png(tmp_path / "small.png", np.ones((9, 9)))
    png(tmp_path / "empty.png", np.zeros((SIDE, SIDE)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    np.save(tmp_path / "stack.npy", np.ones((4, SIDE, SIDE), np.uint8))
    nifti(tmp_path / "coarse.nii", box(), spacing=(4.0, 0.5))
    bad = {
        "small.png": "the mask has another size than the image",
        "empty.png": "the mask is empty",
        "broken.png": "mask: ",
        "lossy.jpg": "mask: a JPEG is no mask; save it as PNG, npy or NIfTI",
        "none.png": "mask: no such file",
        "../c.toml": "mask: leads out of the folder",
        "stack.npy": "the mask has other slices than the image",
        "coarse.nii": "the mask has another spacing than the image",
        "": "mask: no such file",
    }
    file = {"coarse.nii": "b.nii"}
    more = [("c", 1.0 + i, 1.0 + i, file.get(m, "a0.png"), m, "s3") for i, m in enumerate(bad)]
    draw(tmp_path, more, toml=TOML + FRAME)
    cohort = reads()
    table = cohort.report["tables"]["images.csv"]
    assert table["used"] == table["rows"] == len(good) + len(bad) == len(cohort.events["image"])
    assert not values(cohort, "lesion", 19, "c") and values(cohort, "frame", 19, "c")
    assert values(cohort, "lesion", 5, "a")["area_px", 5.0] == disc(8).sum()
    flags = [flag for flag in cohort.report["flags"] if flag.startswith("lesion: ")]
    for reason in bad.values():
        assert any(f"image node(s) not measured: {reason}" in flag for flag in flags), (reason, flags)
    assert sum(int(flag.split()[1]) for flag in flags) == len(bad)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_mask_of_another_volume_is_never_taken(reads, tmp_path, slices):
    """Slices of another depth, and pixels of another place, may look the same and be numbered the same."""
    volume = np.random.default_rng(0).random((20, 24, 24)).astype(np.float32)
    seen = np.zeros(volume.shape, np.uint8)
    seen[5:12, 4:10] = 1
    affine = np.diag([1.0, 1.0, 3.0, 1.0])

    def save(name: str, numbers: np.ndarray, shift=(0, 0, 0), affine=affine) -> None:
        affine = affine.copy()
        affine[:3, 3] += shift
        image = nibabel.Nifti1Image(numbers, affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / name)

    save("v.nii", volume)
    save("same.nii", seen)
    save("near.nii", seen, (0.3, 0, 0))
    save(
        "turned.nii",
        seen[::-1].transpose(2, 0, 1).copy(),
        (19, 0, 0),
        affine[:, [2, 0, 1, 3]] * [1, -1, 1, 1],
    )
    shown = seen.transpose(2, 1, 0)[:, ::-1, ::-1]  # as it is seen, without a place
    np.save(tmp_path / "seen.npy", shown)
    save("far.nii", seen, (500, 500, 500))
    save("next.nii", seen, (0, 0, 3))
    save("deep.nii", np.pad(seen, ((0, 0), (0, 0), (0, 1))))
    save("wide.nii", np.pad(seen, ((0, 1), (0, 0), (0, 0))))
    save("sheared.nii", seen, affine=affine + np.eye(4, k=1) * [[0.1], [0], [0], [0]])
    untold = nibabel.Nifti1Image(seen, None)  # readers guess a direction, here the mirrored one
    untold.header.set_zooms((1, 1, 3))
    nibabel.save(untold, tmp_path / "untold.nii")
    np.save(tmp_path / "deep.npy", np.pad(shown, ((0, 1), (0, 0), (0, 0))))
    bad = {
        "far.nii": "the mask lies elsewhere than the image",
        "next.nii": "the mask lies elsewhere than the image",
        "sheared.nii": "the mask lies elsewhere than the image",
        "untold.nii": "the mask lies elsewhere than the image",
        "deep.nii": "the mask has other slices than the image",
        "deep.npy": "the mask has other slices than the image",
        "wide.nii": "the mask has another size than the image",
    }
    good = ("same.nii", "near.nii", "turned.nii", "seen.npy")
    more = [("c", float(i), float(i), "v.nii", name, "") for i, name in enumerate((*good, *bad))]
    draw(tmp_path, more, toml=TOML.replace('file = "path"', f'file = "path"\nslices = {slices}'))
    from gnnpatient import build_graphs

    cohort = reads()
    nodes = build_graphs(cohort.at(10, patient="c"))["lesion"]
    names = np.array(cohort.codes["lesion"])[nodes.code.numpy()]
    found = {}
    for name, age, value in zip(names, nodes.age.tolist(), nodes.value.tolist(), strict=True):
        found.setdefault(10 - age, []).append((str(name), value))
    assert found.keys() == set(range(len(good)))  # days
    assert all(sorted(found[day]) == sorted(found[0]) for day in found)
    assert [value for name, value in found[0] if name == "area"] == [7 * 6] * slices
    flags = [flag for flag in cohort.report["flags"] if flag.startswith("lesion: ")]
    total = len(cohort.events["image"])
    counts = {reason: slices * list(bad.values()).count(reason) for reason in bad.values()}
    assert sorted(flags) == sorted(
        f"lesion: {n} of {total} image node(s) not measured: {reason}" for reason, n in counts.items()
    )


def test_a_mask_is_what_lies_above_zero_whatever_the_numbers(reads, tmp_path):
    """Readers stretch numbers to their range; of a mask that would lose the lowest label, or all of it."""
    masks = {
        "ones": np.ones((SIDE, SIDE), np.int16),
        "labels": np.where(box(), 2, 1).astype(np.int16),
        "signed": np.where(box(), 1, -1).astype(np.int8),
        "flags": box(),
    }
    more = []
    for i, (name, mask) in enumerate(masks.items()):
        np.save(tmp_path / f"{name}.npy", mask)
        nifti(tmp_path / f"{name}.nii", mask)
        more += [("c", float(i), float(i), "a0.png", f"{name}.npy", "")]
        more += [("c", i + 0.5, i + 0.5, "b.nii", f"{name}.nii", "")]
    draw(tmp_path, more)
    said = values(reads(), "lesion", 10, "c")
    for i, mask in enumerate(masks.values()):
        assert said["area_px", 10.0 - i] == (mask > 0).sum()
        assert said["area", 9.5 - i] == (mask > 0).sum() * SPACING[0] * SPACING[1]


def test_slices_of_a_volume_are_measured_one_by_one(reads, tmp_path):
    volume = np.stack([np.where(disc(r), 200, 20) for r in (3, 6, 9, 12)]).astype(np.uint8)
    np.save(tmp_path / "v.npy", volume)
    mask = volume > 100
    mask[1] = False  # a lesion that is not in every slice
    np.save(tmp_path / "v-mask.npy", mask)
    draw(tmp_path, [("c", 1.0, 1.0, "v.npy", "v-mask.npy", "")], volume=False)
    from gnnpatient import build_graphs

    cohort = reads()
    graphs = build_graphs(cohort.at(2, patient="c"))
    assert len(graphs["image"]) == 4
    area = graphs["lesion"].code == cohort.codes["lesion"].index("area_px")
    assert sorted(graphs["lesion"].value[area].tolist()) == [disc(r).sum() for r in (3, 9, 12)]
    joined = graphs.edges["lesion", "measures", "image"]
    assert joined.shape[1] == len(graphs["lesion"]) and len(joined[1].unique()) == 3
    assert any(
        "lesion: 1 of 7 image node(s) not measured: the mask is empty" in f for f in cohort.report["flags"]
    )


def test_measured_once_for_a_content_and_a_version(reads, tmp_path, monkeypatch):
    from gnnpatient.content import embed

    draw(tmp_path)
    first = reads(cache=tmp_path / "cache")

    def fails(*region):
        raise AssertionError("measured again")

    monkeypatch.setattr(embed, "measure", fails)
    again = reads(cache=tmp_path / "cache")
    for name, column in first.events["lesion"].columns().items():
        assert column.tobytes() == again.events["lesion"].columns()[name].tobytes(), name
    for what, value in (("VERSION", embed.VERSION + 1), (None, None)):
        if what:
            monkeypatch.setattr(embed, what, value)
        else:  # another mask beside the same picture
            monkeypatch.setattr(embed, "VERSION", embed.VERSION - 1)
            png(tmp_path / "a0-mask.png", disc(5) * 255)
        with pytest.raises(AssertionError, match="measured again"):
            reads(cache=tmp_path / "cache")


def test_what_was_done_to_a_picture_is_part_of_its_content(reads, tmp_path):
    draw(tmp_path, toml=TOML + FRAME, volume=False)
    plain = reads(cache=tmp_path / "cache")
    (tmp_path / "c.toml").write_text((TOML + FRAME).replace('steps = ["none"]', 'steps = ["stretch"]'))
    fresh, cached = reads(), reads(cache=tmp_path / "cache")
    for kind in ("lesion", "frame"):
        assert values(fresh, kind, 5, "a") == values(cached, kind, 5, "a") != values(plain, kind, 5, "a")
    assert (fresh.vectors["image"] == cached.vectors["image"]).all()


def test_features_of_another_tool_come_by_study(reads, tmp_path):
    from gnnpatient import build_graphs

    draw(tmp_path, toml=TOML + TOOLS, volume=False)
    rows = ["a,0,6,s1,x,1.5,20", "b,1,1,s2,x,2.5,", "c,1,1,s2,x,9,9"]  # c shows no picture of that study
    (tmp_path / "radiomics.csv").write_text("\n".join([HEADS["radiomics"], *rows]) + "\n")
    rows = ["a,0,s1,area,120,mm2", "a,0,,area,50,mm2", "b,1,s2,area,30,mm2"]
    (tmp_path / "segments.csv").write_text("\n".join([HEADS["segments"], *rows]) + "\n")
    cohort = reads()
    assert cohort.codes["radiomics"] == ("other", "firstorder_Mean", "shape_Volume")
    said = values(cohort, "radiomics", 9, "a")
    assert said == {("firstorder_Mean", 9.0): 1.5, ("shape_Volume", 9.0): 20.0}

    def edges(kind: str, day: float, patient: str) -> int:
        graphs = build_graphs(cohort.at(day, patient=patient))
        source, target = graphs.edges[kind, "measures", "image"]
        assert graphs.edges["image", "rev_measures", kind].tolist() == [target.tolist(), source.tolist()]
        return len(source)

    assert [edges("radiomics", day, "a") for day in (0.5, 5.9, 6)] == [0, 0, 4]  # two numbers, two pictures
    assert [edges("segment", day, "a") for day in (0.4, 0.5, 4.5)] == [0, 1, 2]  # the one with a study
    assert edges("radiomics", 9, "b") == 1 and edges("segment", 9, "b") == 1
    assert edges("radiomics", 9, "c") == 0


@pytest.mark.filterwarnings("ignore:.*learned from so few:UserWarning")
def test_a_model_reads_them_and_fusion_keeps_them_with_their_pictures(cohort):
    from gnnpatient import PrognosisModel, build_graphs
    from gnnpatient.study.ablations import last_values_only, missingness_only, modalities_of, timing_only

    assert modalities_of(cohort) == {"image": ("image", "lesion", "frame")}
    asks = cohort.landmarks(times=[0, 2, 5]).followed()
    model = PrognosisModel(members=1, epochs=1, horizon=25.0, channels=8).fit(asks)
    for seen in (cohort, cohort.only(["lesion"]), cohort.only(["image"]), timing_only(cohort)):
        answer = model.forecast(seen.at(5).followed())["death"].incidence
        assert np.isfinite(answer).all() and np.allclose(answer.sum(1), 1)
    assert ("lesion", "measures", "image") not in build_graphs(missingness_only(cohort).at(5)).edges
    joined = build_graphs(last_values_only(cohort).at(5)).edges["lesion", "measures", "image"]
    assert joined.shape[1] == len(build_graphs(last_values_only(cohort).at(5))["lesion"])


WRONG = [
    (
        'measures = "image"\nregion',
        'measures = "imag"\nregion',
        "'imag' cannot be used here; did you mean 'image'",
    ),
    ('measures = "image"\nregion', 'measures = "lesion"\nregion', "'lesion' cannot be used here"),
    (
        'edges = ["at", "same"]',
        'edges = ["at"]\ntime = "day"',
        "time belongs to .*; measures = NAME makes this measurements",
    ),
    ('edges = ["at", "same"]', 'edges = ["at", { measures = "image" }]', "joins them already"),
    (
        'study = "acc"',
        'study = "acc"\nregion = "mask"',
        "region belongs to measurements; file = COLUMN makes this images",
    ),
    ('region = "mask"', 'region = "maks"', "no column 'maks'; did you mean 'mask'"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_spec_is_refused_in_one_line(reads, tmp_path, old, new, message):
    draw(tmp_path)
    assert old in TOML
    (tmp_path / "c.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as error:
        reads()
    assert "\n" not in str(error.value)
