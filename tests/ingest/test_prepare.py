"""The scripts that make tables for a shipped spec: every quirk once, counted; the source stays as it was."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

GRAPHS = Path(__file__).parents[2] / "graphs"
REAL = {"death": [67, 15], "icu": [13, 10], "intubated": [14, 8]}
REAL |= {"icu_contaminated": [35, 54], "intubated_contaminated": [29, 36]}
KNOWN = {  # patients, rows of each kind, patients of each class; by the READMEs and labels of the data
    "covid-cxr": (284, {"image": 446, "lab": 183}, REAL),
    "openi-reports": (2967, {"findings": 2555, "impression": 2942}, {"normal": [1919, 1048]}),
    "dicom-nifti-samples": (7, {"image": 34 + 3 * 3}, {}),
    "flchain": (7874, {"lab": 3 * 7874 + 6524}, {}),
}
FOLDERS = {name: name for name in KNOWN} | {"flchain": "survival-tables"}


def prepare(name, *args, **choices):
    """Run one script's `prepare`; what it says that it did, as a dictionary."""
    spec = importlib.util.spec_from_file_location("prepared", GRAPHS / f"{name}.prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    done = module.prepare(*args, **choices)
    assert len({what for what, _ in done}) == len(done)
    return dict(done)


def cohort(name, folder, *, embed=False):
    from gnnpatient import read_cohort

    return read_cohort(name, folder, embed=embed)


HEADER = (
    "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,"
    "needed_supplemental_O2,extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,"
    "lymphocyte_count,view,modality,date,location,folder,filename,doi,url,license,clinical_notes,other_notes,"
)
PLACES = {name: i for i, name in enumerate(HEADER.split(","))}
ROW = {"offset": "0", "sex": "F", "age": "50", "view": "PA", "modality": "X-ray", "folder": "images"}
ROW |= {"temperature": "37"}
SCORES = "filename,geographic_mean,opacity_mean\n{}\n"


@pytest.fixture
def collection(tmp_path):
    """A collection of such rows. Each has an image: of the shade that `images` gives, None = not there."""

    def make(rows, scores=None, images=None):
        from PIL import Image

        folder = tmp_path / "source"
        (folder / "images").mkdir(parents=True)
        lines = [HEADER]
        for i, row in enumerate(rows):
            row = ROW | {"filename": f"{i}.png", "url": f"https://a.org/{row['patientid']}"} | row
            cells = [""] * len(PLACES)
            for name, cell in row.items():
                cells[PLACES[name]] = f'"{cell}"'
            lines.append(",".join(cells))
            shade = (images or {}).get(i, 10 + i)
            if shade is not None:
                Image.fromarray(np.full((8, 8), shade, np.uint8)).save(folder / "images" / row["filename"])
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        scores = scores or "\n".join(f"{i}.png,1.0,1.0" for i in range(len(rows)))
        (folder / "covid-severity-scores.csv").write_text(SCORES.format(scores), encoding="utf-8")
        return folder, tmp_path / "out"

    return make


def test_words_for_unknown_and_slips_are_missing_and_counted(collection):
    rows = [
        {"patientid": "1", "survival": "?", "temperature": "?", "went_icu": "Would have been stated"},
        {"patientid": "2", "survival": "Y", "sex": "M", "intubated": "Not visible"},
        {"patientid": "2", "survival": "N", "sex": "M", "went_icu": "Y"},
        {"patientid": "3", "view": "?", "lymphocyte_count": "inf"},
    ]
    folder, out = collection(rows)
    done = prepare("covid-cxr", folder, out)
    assert done["survival: not said in words, now empty"] == 1
    assert done["temperature: not a number, now empty"] == 1
    assert done["lymphocyte_count: not a number, now empty"] == 1
    assert done["patients whose survival differs between rows, now empty"] == 1
    assert done["patients whose went_icu differs between rows, now empty"] == 0
    assert done["images without a view"] == 1
    read = cohort("covid-cxr", out)
    assert read.outcomes["death"].label.tolist() == [-1, -1, -1]
    assert read.outcomes["icu_contaminated"].label.tolist() == [-1, 1, -1]
    assert set(read.codes["image"]) == {"other", "PA", "X-ray"}
    assert len(read.events["lab"]) == 2


def test_who_comes_into_intensive_care_is_asked_of_those_who_are_not_there(collection):
    """An image that says so, or does not say that it is not so, is no ask; nor is any after one says so."""
    free, yes = {"in_icu": "N", "intubation_present": "N"}, {"went_icu": "Y", "intubated": "N"}
    rows = [
        {"patientid": "1", **free, **yes},
        {"patientid": "2", "in_icu": "Y", "intubation_present": "N", **yes},
        {"patientid": "3", "in_icu": "N", "intubation_present": "Y", **yes},
        {"patientid": "4", "in_icu": "N", **yes},  # of a tube nothing is said
        {"patientid": "5", **free, **yes},
        {"patientid": "5", **free, **yes, "in_icu": "?"},  # of the same day
        {"patientid": "6", **free, **yes},
        {"patientid": "6", "offset": "3", **free, **yes, "intubation_present": "Y"},
        {"patientid": "7", "in_icu": "Y", **yes, "folder": "volumes"},  # no image
        {"patientid": "7", **free, **yes},
    ]
    folder, out = collection(rows)
    done = prepare("covid-cxr", folder, out)
    read = cohort("covid-cxr", out)
    assert read.ids.tolist() == [*"1234567"]
    for name, label in (("icu", 1), ("intubated", 0)):
        assert read.at(0.0).followed(name).ids.tolist() == ["1", "6", "7"]
        assert set(read.at(0.0).followed(name).outcome(name)["label"]) == {label}
        assert len(read.at(0.0).followed(f"{name}_contaminated")) == 7
        assert "6" not in read.at(2.5).followed(name).ids  # a day before it is told
    assert done["patients whose went_icu the first images may show"] == 4


def test_units_are_told_from_the_numbers_and_impossible_ones_are_refused(collection):
    one, two = {"url": "https://a.org/one"}, {"url": "https://a.org/two"}
    rows = [
        {"patientid": "1", "temperature": "95", "pO2_saturation": "97", **one},
        {"patientid": "2", "temperature": "38", "pO2_saturation": "130", **two},
        {"patientid": "3", "pO2_saturation": "80", "lymphocyte_count": "131", "temperature": "", **two},
        {"patientid": "4", "leukocyte_count": "0.22", "temperature": ""},
    ]
    folder, out = collection(rows)
    done = prepare("covid-cxr", folder, out)
    assert done["temperatures in degrees Fahrenheit"] == 1
    assert done["saturations that are none: partial pressures"] == 1
    assert done["others of the same articles: partial pressures, too"] == 1
    read = cohort("covid-cxr", out)
    lab, codes = read.events["lab"], read.codes["lab"]
    found = sorted((codes[c], round(float(v), 3)) for c, v in zip(lab.code, lab.value, strict=True))
    assert found == [("SpO2", 97), ("pO2", 80), ("pO2", 130), ("temperature", 35), ("temperature", 38)]
    assert read.report["tables"]["labs.csv"]["refused"] == {"out of range": 2}


def test_day_0_is_the_first_picture_and_what_has_no_day_is_left_out(collection):
    rows = [
        {"patientid": "1", "offset": "3"},  # its image is not there
        {"patientid": "1", "offset": "5", "temperature": ""},
        {"patientid": "1", "offset": ""},
        {"patientid": "2", "offset": "?"},
        {"patientid": "2", "offset": ""},
        {"patientid": "3", "offset": "-4"},
    ]
    folder, out = collection(rows, images={0: None})
    done = prepare("covid-cxr", folder, out)
    assert done["patients without any offset: their first image is day 0"] == 1
    assert done["rows of these that could lie before or after it: undated"] == 1
    assert done["rows undated beside dated ones"] == 1
    read = cohort("covid-cxr", out)
    image, lab = read.events["image"], read.events["lab"]
    assert image.known.tolist() == [0, 0, 0] and lab.known.tolist() == [-2 * 86_400, 0, 0]
    onset = read.number[:, read.spec.patient.number.index("onset")]
    assert np.array_equal(onset, [5, np.nan, -4], equal_nan=True)
    assert read.report["tables"]["images.csv"]["refused"] == {"no time": 2, "image: no such file": 1}


def test_one_person_under_two_ids_is_found_by_the_images(collection):
    rows = [{"patientid": p} for p in ("7", "7", "9", "9", "8", "6")]
    folder, out = collection(rows, images={0: 1, 1: 2, 2: 2, 3: 1, 4: 1, 5: 9})
    done = prepare("covid-cxr", folder, out)
    assert done["patient ids merged into another with the same images"] == 1
    assert done["rows of these"] == 2
    read = cohort("covid-cxr", out)
    assert read.ids.tolist() == ["6", "7", "8"]
    six, seven, eight = read.groups
    assert seven == eight != six  # 8 shares one of two images: another person, perhaps, but the same group


def test_groups_are_joined_through_articles(collection):
    rows = [
        {"patientid": "1", "doi": "10.1/a"},
        {"patientid": "2", "doi": "10.1/a", "url": "https://a.org/x?lang=us"},
        {"patientid": "3", "url": "https://a.org/x"},
        {"patientid": "4"},
    ]
    folder, out = collection(rows)
    assert prepare("covid-cxr", folder, out)["groups of patients who share an article or an image"] == 2
    groups = cohort("covid-cxr", out).groups
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_volumes_notes_and_names_that_lead_out(collection, tmp_path):
    rows = [
        {"patientid": "1", "folder": "volumes", "clinical_notes": "He died."},
        {"patientid": "2", "clinical_notes": "Well."},
        {"patientid": "3", "filename": "../outside.png"},
    ]
    folder, out = collection(rows, images={0: None, 2: 3})
    before = (folder / "metadata.csv").read_bytes()
    done = prepare("covid-cxr", folder, out, notes=True)
    assert done["rows that name a CT volume, which is no image"] == 1
    assert done["rows whose image is not there"] == 2
    assert cohort("covid-cxr", out).report["tables"]["images.csv"]["rows"] == 2
    assert "note" not in cohort("covid-cxr", out).events
    assert len(cohort(out / "spec.toml", out).events["note"]) == 2
    assert (folder / "metadata.csv").read_bytes() == before
    bare = tmp_path / "bare"
    prepare("covid-cxr", folder, bare)
    assert not any("He died." in path.read_text() for path in bare.glob("*.csv"))


def test_the_label_is_that_of_the_first_day(collection):
    rows = [
        {"patientid": "1", "finding": "No Finding"},
        {"patientid": "1", "finding": "COVID-19", "offset": "2"},
        {"patientid": "2", "finding": "COVID-19, ARDS"},
        {"patientid": "3", "finding": "SARS"},
        {"patientid": "4", "finding": "todo"},
    ]
    folder, out = collection(rows)
    assert prepare("covid-cxr", folder, out)["patients without a finding on day 0"] == 2
    read = cohort("covid-cxr", out)
    assert read.outcomes["covid"].classes == ("other", "covid")
    assert read.outcomes["covid"].label.tolist() == [-1, 1, 0, -1]


def test_severity_is_that_of_the_first_scored_image(collection):
    scores = "1.png,4.0,3.0\n2.png,4.3,3.0\n3.png,8,6\n9.png,1,1"
    rows = [{"patientid": "1"}, {"patientid": "1", "offset": "1"}, {"patientid": "1", "offset": "2"}]
    folder, out = collection([*rows, {"patientid": "2"}], scores)
    done = prepare("covid-cxr", folder, out)
    assert done["scored images that are not there, undated or not a patient's first"] == 2
    severe = cohort("covid-cxr", out).outcomes["severe"]
    assert severe.label.tolist() == [0, 1]  # 4 of 8 is half of the lungs, not more
    assert severe.known.tolist() == [86_400, 0]


def test_a_column_that_is_not_there_is_refused_and_nothing_is_written(collection):
    from gnnpatient import InputError

    folder, out = collection([{"patientid": "1"}])
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace("went_icu", "went icu"))
    with pytest.raises(InputError, match="no column 'went_icu'; did you mean 'went icu'"):
        prepare("covid-cxr", folder, out)
    assert not out.exists() and [path.name for path in out.parent.iterdir()] == ["source"]


def report(findings="Clear.", impression="Well.", majors=("normal",), head=""):
    parts = {"FINDINGS": findings, "IMPRESSION": impression, "INDICATION": " Cough\n  of XXXX "}
    said = "".join(f'<AbstractText Label="{name}">{text}</AbstractText>' for name, text in parts.items())
    coded = "".join(f"<major>{major}</major>" for major in majors)
    return f'<?xml version="1.0"?>{head}<a>{said}<MeSH>{coded}</MeSH></a>'.encode()


@pytest.fixture
def archive(tmp_path):
    def make(files):
        folder = tmp_path / "source"
        folder.mkdir()
        with tarfile.open(folder / "reports.tar.gz", "w:gz") as out:
            for name, raw in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(raw)
                out.addfile(member, io.BytesIO(raw))
        return folder, tmp_path / "out"

    return make


def test_the_parts_of_a_report_are_kinds_and_its_codes_the_answer(archive):
    files = {
        "reports/1.xml": report(),
        "reports/2.xml": report(impression="Unchanged.", majors=("normal", "Cicatrix/lung")),
        "reports/3.xml": report(findings="", majors=("Opacity/lung",)),
        "reports/4.xml": report(findings=" ", majors=()),
    }
    folder, out = archive(files)
    done = prepare("openi-reports", folder, out)
    assert done["reports"] == 4 and done["reports without findings"] == 2
    assert done["reports without coded findings"] == 1
    read = cohort("openi-reports", out)
    assert {kind: len(rows) for kind, rows in read.events.items() if kind != "timepoint"} == {
        "comparison": 0,
        "indication": 4,
        "findings": 2,
        "impression": 4,
    }
    assert read.outcomes["normal"].label.tolist() == [1, 0, 0, -1]
    assert read.groups[0] == read.groups[1] and read.groups[2] == read.groups[3] != read.groups[0]
    assert pl.read_csv(out / "reports.csv")["indication"].unique().to_list() == ["Cough of XXXX"]


def test_entities_broken_files_and_strange_members_are_left_out_and_counted(archive):
    bomb = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    files = {
        "reports/1.xml": report(),
        "reports/2.xml": report(findings="&b;", head=bomb),
        "reports/3.xml": report()[:-5],
        "../reports/4.xml": report(),
        "reports/readme.txt": b"hello",
    }
    folder, out = archive(files)
    done = prepare("openi-reports", folder, out)
    assert done["reports"] == 1
    assert done["reports with a document type: left out"] == 1
    assert done["reports that are no XML: left out"] == 1
    assert done["members that are no report: left out"] == 2
    assert sorted(path.name for path in out.parent.rglob("*") if path.is_file()) == [
        "reports.csv",
        "reports.tar.gz",
    ]


def test_an_archive_that_is_too_large_is_refused(archive):
    from gnnpatient import InputError

    folder, out = archive({"reports/1.xml": report(), "notes.txt": bytes((1 << 20) + 1)})
    with pytest.raises(InputError, match="member 2 has 1048577 bytes"):
        prepare("openi-reports", folder, out)
    assert not out.exists()


def test_an_archive_that_is_cut_is_refused(archive):
    from gnnpatient import InputError

    folder, out = archive({f"reports/{i}.xml": report() for i in range(9)})
    whole = (folder / "reports.tar.gz").read_bytes()
    (folder / "reports.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="bring the archive whole"):
        prepare("openi-reports", folder, out)
    assert not out.exists()


def dicom(path, **tags):
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = uid = pydicom.uid.generate_uid(entropy_srcs=[path.name])
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = bytes(range(16))
    for tag, value in tags.items():
        setattr(made, tag, value)
    made.save_as(path)


def test_headers_say_whose_picture_it_is_and_when_it_was_there(tmp_path):
    folder, out = tmp_path / "source", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    mine = {"PatientID": "p", "Modality": "CT", "PatientSex": "F"}
    dicom(folder / "a", **mine, StudyDate="20200101", StudyTime="120000", PatientAge="050Y")
    later = {"AcquisitionDate": "20200103", "AcquisitionTime": "000000.5"}
    dicom(folder / "deep" / "b", **mine, StudyDate="20200102", StudyTime="120000", PatientAge="051Y", **later)
    dicom(folder / "c", **mine, StudyDate="20200101")
    dicom(folder / "d", PatientID="q", Modality="MR")
    dicom(folder / "e", Modality="MR")  # whose?
    (folder / "README").write_text("no image")
    done = prepare("dicom-nifti-samples", folder, out)
    assert done == {
        "DICOM files": 4,
        "of them undated": 1,
        "NIfTI files": 0,
        "files that are neither, or show no image": 2,
        "patients": 2,
    }
    read = cohort("dicom-nifti-samples", out, embed=True)
    assert read.ids.tolist() == ["p", "q"]
    assert read.number[0, 0] == 50 and np.isnan(read.number[1, 0])
    # noon is day 0; without a clock time the day's last second; the later of study and acquisition
    assert read.events["image"].known.tolist() == [0, 12 * 3600 - 1, 36 * 3600, 0]


def test_rows_without_a_key_get_their_number(tmp_path):
    from gnnpatient import InputError

    head = "age,sex,sample.yr,kappa,lambda,flc.grp,creatinine,mgus,futime,death,chapter"
    rows = [
        "97,F,1997,5.7,4.86,10,1.7,0,85,1,Circulatory",
        "60,M,1996,1,1.5,3,,0,0,1,",
        "50,F,1995,1,1,1,1,0,9,0,",
    ]
    (tmp_path / "flchain.csv").write_text("\n".join([head, *rows]) + "\n")
    done = prepare("flchain", tmp_path, tmp_path / "out")
    assert done == {"rows that got a number": 3, "ends on the day of the sample": 1}
    read = cohort("flchain", tmp_path / "out")
    assert read.ids.tolist() == ["0", "1", "2"] and len(read.events["lab"]) == 11
    truth = read.at(0).outcome("death")
    assert truth["event"].tolist() == [1, 1, 0] and truth["time"].tolist() == [85, 0.5, 9]
    (tmp_path / "flchain.csv").write_text("\n".join([head, rows[0].replace(",85,", ",soon,")]) + "\n")
    with pytest.raises(InputError, match=r"1 row\(s\) whose futime is not a number"):
        prepare("flchain", tmp_path, tmp_path / "other")


def test_deaths_of_flchain_are_those_of_the_frozen_labels(data_dir, tmp_path):
    if not (file := data_dir.parent / "protocols" / "labels_flchain.parquet").is_file():
        pytest.skip(f"{file.name}: no such file beside the data")
    labels = pl.read_parquet(file)
    prepare("flchain", data_dir / FOLDERS["flchain"], tmp_path / "out")
    X = cohort("flchain", tmp_path / "out").at(0, patient=labels["id"].cast(pl.String).to_list())
    truth = X.outcome("death")
    assert len(X) == 6300 and X.at_risk("death").all()
    assert (truth["event"] == labels["event"].to_numpy()).all()
    assert (truth["time"] == labels["time"].to_numpy()).all()


def test_every_script_is_tried():
    scripts = {path.name.removesuffix(".prepare.py") for path in GRAPHS.glob("*.prepare.py")}
    assert scripts == {*KNOWN, "tcga"}  # that one among the shipped cohorts


@pytest.mark.parametrize("name", KNOWN)
def test_on_the_real_folder(name, data_dir, tmp_path):
    prepare(name, data_dir / FOLDERS[name], tmp_path / "out")
    read = cohort(name, tmp_path / "out", embed=name == "dicom-nifti-samples")  # by hand: no weights
    patients, rows, labels = KNOWN[name]
    assert len(read) == patients
    assert {kind: len(read.events[kind]) for kind in rows} == rows
    for outcome, counts in labels.items():
        label = read.outcomes[outcome].label
        assert np.bincount(label[label >= 0]).tolist() == counts
    for table, counts in read.report["tables"].items():
        refused = sum(counts["refused"].values())
        assert counts["rows"] == counts["used"] + counts["collapsed"] + refused, table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "outcome"), [("covid-cxr", "icu_contaminated"), ("openi-reports", "normal")]
)
def test_from_the_folder_to_an_ask(name, outcome, data_dir, tmp_path, capsys):
    from gnnpatient.cli import run

    def call(*words):
        capsys.readouterr()
        assert run([str(word) for word in words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    prepare(name, data_dir / name, tmp_path / "out")
    call("pack", name, "--data", tmp_path / "out", "--out", tmp_path / "cohort")
    few = ["--members", 1, "--epochs", 1, "--landmarks", "0d", "--outcome", outcome]
    call("fit", tmp_path / "cohort", "--out", tmp_path / "run", *few)
    patient = json.loads((tmp_path / "run" / "split.json").read_text())["test"][0]
    answer = json.loads(call("ask", tmp_path / "run", tmp_path / "cohort", "--patient", patient, "--json"))
    assert sum(answer["outcomes"][outcome]["probability"].values()) == pytest.approx(1)
