"""The flow goes one way: who may import whom between folders and inside them, and what a cold start loads."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import gnnpatient
from gnnpatient.cli.main import MODULES as COMMAND_FILES

ROOT = Path(gnnpatient.__file__).parent
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))

# A folder is a step of the flow: a file may import what stands before it here, and in its own folder.
ORDER = [
    *["errors", "times", "show", "progress", "files", "graphs", "metrics"],
    *["spec", "model", "readers", "content", "cohort", "ingest", "testing"],
    *["prognosis", "study", "patient", "propose", "datasets", "adapt", "scale", "cli"],
]
ALONE = {
    "graphs": {"errors", "show"},
    "metrics": {"errors"},
    "model": {"errors", "graphs"},
}  # know less than that
MAY_IMPORT = {place: ALONE.get(place, set(ORDER[:i])) for i, place in enumerate(ORDER)} | {
    "__init__": {*ORDER, "_moved"},
    "_moved": set(ORDER),
    "__main__": set(ORDER),
}
INSIDE = {  # the files of a folder, each may import those named before it
    "metrics": "incidence pairs horizon recurrent states calibration scores ordered decision values "
    "resampling "
    "coherence",
    "spec": "patterns masks explain tables lineage nodes outcomes graph examples reference",
    "readers": "database dates csv_file frames tables standard meds omop fhir",
    "content": "texts image measure encoder cache handcrafted pretrained embed vectors",
    "cohort": "arrays packed survival recurrent states diagnosis progression worsening outcomes store cohort "
    "splits build view",
    "ingest": "rows scripts audit cells joins source quarantine columns units picks statics patients moments "
    "hierarchy ancestors amendments contents events lost dates ends periods record outcome_words intervals "
    "causes aces labels_survival labels_task labels_diagnosis labels_progression labels hidden pack read",
    "propose": "names parts sheets keys dictionaries moments stays patients states layouts inputs outcomes "
    "formats draft",
    "datasets": "ward clinic shipped",
    "model": "basis vocabulary table encode relations layers recurrence pool scores paths values intervals "
    "heads model",
    "prognosis": "summary disclosure conformal inputs rows values forecast plot targets value_target "
    "worsening paths recurrent multistate marginal kinds device states problem weights columns minimise "
    "value_linear linear aggregates trees value_boosted boosted network families stack predictor card "
    "checkpoint calibrate fit estimator people run",
    "study": "describe duplicates sample_size table1 matching column_scores leaks check info fitted folds "
    "intervals pooling scoreboard cox tabular joint mixed_model value_baselines baselines rivals seen_again "
    "event_counts occupation subgroups coverage curves figures updating evaluate oracle validation models "
    "crossval ablations fitting budget comparison missingness compare report",
    "patient": "answers predictions figure trajectory explain similar page serve",
    "cli": " ".join(["console", *COMMAND_FILES, "main", "__main__"]),
}
# The circle of cohort, build and view: users call cohort.patient(id).table() and landmarks.to_frame(), which
# are methods of what comes before. They import in the function: a cohort is opened without torch and polars.
# Likewise forecast, values and plot: forecast.plot() is a method, and a model is loaded without matplotlib.
FORWARD = {("cohort/cohort.py", "view"), ("prognosis/forecast.py", "plot"), ("prognosis/values.py", "plot")}
# by folder: what only annotations take from later, and why
UPWARD_ANNOTATIONS: dict[str, dict[str, str]] = {}
ONLY_IN = {  # packages that stay where they are
    "sksurv": ("study/", "prognosis/estimator.py"),
    "transformers": ("content/pretrained.py",),
}


def imports(file: str, *, annotations: bool = False) -> Iterator[str]:
    """Dotted names that a file imports when it runs, in functions too; or those for annotations only."""
    todo: list[ast.AST] = [ast.parse((ROOT / file).read_text())]
    if annotations:
        blocks = [node for node in ast.walk(todo.pop()) if isinstance(node, ast.If)]
        todo += [
            node for block in blocks if "TYPE_CHECKING" in ast.unparse(block.test) for node in block.body
        ]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> list[str]:
    """gnnpatient.cohort.build.Name -> [cohort, build, Name]; lazy names lead to their home."""
    _, *path = name.split(".")
    if path and path[0] in gnnpatient._HOME:
        return [*gnnpatient._HOME[path[0]].split("."), path[0]]
    return [] if path and path[0].startswith("__") else path


def upward(file: str, names: Iterable[str]) -> Iterator[str]:
    """Which of these names a file may not import."""
    place, *rest = Path(file).with_suffix("").parts
    assert place in MAY_IMPORT, f"{file} has no place in the order"
    order = INSIDE.get(place, "").split()
    if rest:
        assert rest[0] in [*order, "__init__"], f"{file} has no place in the order of {place}/"
        before = order if rest[0] == "__init__" else order[: order.index(rest[0])]
    for name in names:
        if name.partition(".")[0] != "gnnpatient" or not (path := ours(name)):
            continue
        if path[0] != place:
            if path[0] not in MAY_IMPORT[place]:
                yield name
        elif rest and path[1:] and path[1] not in (rest[0], *before) and (file, path[1]) not in FORWARD:
            yield name


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_comes_before_it(file):
    assert not list(upward(file, imports(file)))


def test_annotations_name_only_what_comes_before():
    found: dict[str, set[str]] = {}
    for file in FILES:
        names = upward(file, imports(file, annotations=True))
        found.setdefault(file.partition("/")[0], set()).update(name.rpartition(".")[2] for name in names)
    allowed = {place: set(names) for place, names in UPWARD_ANNOTATIONS.items()}
    assert {place: names for place, names in found.items() if names} == allowed


@pytest.mark.parametrize("file", FILES)
def test_packages_stay_where_they_are(file):
    packages = {name.partition(".")[0] for name in imports(file)}
    for package, places in ONLY_IN.items():
        assert package not in packages or file.startswith(places), f"{file} imports {package}"
    if file == "graphs.py" or file.startswith("metrics/"):
        allowed = {"numpy", "torch", "jaxtyping", "gnnpatient", "torch_geometric"}
        assert packages - set(sys.stdlib_module_names) <= allowed


def test_torch_geometric_only_inside_hetero_data():
    tree = ast.parse((ROOT / "graphs.py").read_text())
    inside = [node for node in ast.walk(tree) if getattr(node, "name", "") == "hetero_data"]
    tree_text, inside_text = ast.dump(tree), "".join(map(ast.dump, inside))
    torch_geometric = "module='torch_geometric.data'"
    assert inside_text.count(torch_geometric) == 1
    assert tree_text.count(torch_geometric) == 2  # the other is for annotations


HEAVY = {"torch", "torch_geometric", "sklearn", "sksurv", "transformers"}
COLD = {
    "import gnnpatient": HEAVY | {"numpy", "polars", "pydantic", "importlib.abc"},
    "import gnnpatient; gnnpatient.Refused; dir(gnnpatient)": HEAVY,
    "import sys; sys.argv = ['gnnpatient', '--help']; from gnnpatient.cli import main; main()": HEAVY,
    "from gnnpatient import read_spec; read_spec('pbc')": HEAVY,
    "import gnnpatient.patient; from gnnpatient.study import folder_info": HEAVY | {"numpy", "polars"},
    "from gnnpatient import load_predictor": HEAVY - {"torch"} | {"polars"},
}


@pytest.mark.parametrize("code", COLD)
def test_a_cold_start_loads_only_what_it_needs(code):
    tell = "import atexit, sys\natexit.register(lambda: print('loaded', *sys.modules))\n"
    run = subprocess.run([sys.executable, "-c", tell + code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.rsplit("loaded", 1)[1].split())
    assert not loaded & COLD[code]


def test_every_public_name_is_there():
    assert set(gnnpatient.__all__) == {*gnnpatient._HOME, "__version__"}
    for name in gnnpatient.__all__:
        assert getattr(gnnpatient, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Chort'"):
        gnnpatient.Chort  # noqa: B018
