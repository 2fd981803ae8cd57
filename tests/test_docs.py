"""What README.md, docs/ and notebooks/ show runs as it stands there, in an empty folder and without network.

The blocks of a page run in order, with one namespace:

- ``title="NAME"``: the block is written to the file NAME;
- ``bash``: every line is a `gnnpatient` command that must succeed, or a comment;
- ``python``: with ``>>>`` it is a doctest, else it is executed;
- ``toml``: must parse;
- ``text``: what a program printed, or a drawing; not run.

Any other block fails, so that none escapes.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pydoc
import re
import runpy
import shlex
import socket
import sys
import textwrap
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "docs/cli.md"  # by `make docs`, perhaps at this moment
PAGES = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path != BUILT)]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# measured: over 3 s on one core
SLOW = {
    "README.md",
    "docs/how-to/dataframes.md",
    "docs/how-to/diagnosis.md",
    "docs/how-to/evaluate.md",
    "docs/how-to/hand-on.md",
    "docs/how-to/mimic.md",
    "docs/how-to/notebook.md",
    "docs/how-to/recurrent.md",
    "docs/how-to/your-network.md",
    "docs/how-to/your-tables.md",
    "docs/tutorial.md",
    "notebooks/2-train-and-judge.ipynb",
    "notebooks/3-your-own-network.ipynb",
}
FENCE = re.compile(r"(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,})[ ]*(?P<language>[^\s`]*)[ ]*(?P<rest>[^`]*)")
TITLE = re.compile(r'title="([^"]+)"')
WRITTEN = {"toml", "csv", "tsv", "json", "yaml", "text"}  # languages that a block with a title may have
SHELL = set("|&;<>$`*?")  # of a shell, which the commands of a page do not have
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def parameters(paths: list[Path]) -> list[Any]:
    names = [str(path.relative_to(ROOT)) for path in paths]
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


# ---- the blocks of a page


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, file name, text and the line of its fence."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, also of those that are indented under a list or a tab."""
    lines = page.split("\n")
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            match = FENCE.fullmatch(line.rstrip())
            if match:
                start, opened = number, match
        elif line.strip() == opened["fence"]:
            title = TITLE.search(opened["rest"])
            text = textwrap.dedent("\n".join(lines[start : number - 1]) + "\n")
            yield Block(opened["language"], title and title[1], text, start)
            start = None
    assert start is None, f"line {start}: the block has no end"


def run_page(page: str, name: str, namespace: dict[str, Any], folder: Path) -> None:
    """Run the blocks of a page in this process and this working directory."""
    for block in blocks(page):
        where = f"{name}:{block.line}"
        if block.title:
            assert block.language in WRITTEN, f"{where}: a {block.language!r} block has no title"
            file = folder / block.title
            assert file.resolve().is_relative_to(folder.resolve()), f"{where}: {block.title}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        match block.language:
            case "bash":
                for command in commands(block.text, where):
                    run_command(command, where)
            case "python" if ">>>" in block.text:
                run_doctest(block, name, namespace)
            case "python":
                source = "\n" * block.line + block.text  # a traceback shows the line of the page
                exec(compile(source, name, "exec"), namespace)
            case "toml":
                tomllib.loads(block.text)
            case "text" | "csv" | "tsv" | "json" | "yaml" if block.title or block.language == "text":
                pass
            case other:
                raise AssertionError(f"{where}: a block of {other!r}; see {Path(__file__).name}")


def commands(text: str, where: str) -> Iterator[list[str]]:
    """The commands of a bash block, each as its words after `gnnpatient`."""
    for line in text.replace("\\\n", " ").split("\n"):
        program, *words = shlex.split(line, comments=True) or [""]
        if program:
            assert program == "gnnpatient", f"{where}: {line.strip()!r} is not a gnnpatient command"
            assert not SHELL & set("".join(words)), f"{where}: {line.strip()!r} needs a shell"
            yield words


def run_command(words: list[str], where: str) -> None:
    from gnnpatient.cli import run

    assert run(words) == 0, f"{where}: gnnpatient {shlex.join(words)}"


def run_doctest(block: Block, name: str, namespace: dict[str, Any]) -> None:
    assert "doctest: +SKIP" not in block.text, f"{name}:{block.line}: runs or is no example"
    test = doctest.DocTestParser().get_doctest(block.text, namespace, name, name, block.line)
    report: list[str] = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False).failed
    assert not failed, "".join(report)
    namespace.update(test.globs)


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> None:
    """Run the code of a cell; its last value is shown, as a notebook does."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        assert isinstance(repr(value), str)
        html = getattr(value, "_repr_html_", None)
        assert html is None or isinstance(html(), str | None)


# ---- where it runs


@pytest.fixture
def namespace(tmp_path, monkeypatch) -> Iterator[dict[str, Any]]:
    """The names of a page, in an empty folder, with no data of this machine and no network."""

    def refused(host: object, *_: object, **__: object) -> None:
        raise OSError(f"a page needs no network, and asks for {host}")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for variable in ("GNNPATIENT_DATA", "GNNPATIENT_FAULTS", "GNNPATIENT_FIELD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    yield page.__dict__
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.mark.parametrize("page", parameters(PAGES))
def test_a_page_runs(page, namespace, tmp_path):
    run_page((ROOT / page).read_text(encoding="utf-8"), page, namespace, tmp_path)


@pytest.mark.parametrize("notebook", parameters(NOTEBOOKS))
def test_a_notebook_runs(notebook, namespace):
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code
    for number, source in enumerate(code, 1):
        run_cell(source, f"{notebook}, code cell {number}", namespace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(notebook):
    strip = script("strip_outputs")["stripped"]
    text = notebook.read_text(encoding="utf-8")
    assert text == strip(text), f".ci/strip_outputs.py {notebook.name} takes them out"


def test_every_slow_page_is_there():
    assert {str(path.relative_to(ROOT)) for path in (*PAGES, *NOTEBOOKS)} >= SLOW


# ---- the site


def script(name: str) -> dict[str, Any]:
    """The functions of a script of .ci."""
    return runpy.run_path(str(ROOT / ".ci" / f"{name}.py"))


def test_every_command_and_option_is_on_its_page():
    from gnnpatient.cli.main import app

    page = script("cli_page")["page"]()
    assert {block.language for block in blocks(page)} == {"text"}
    for command in app.registered_commands:
        name = command.callback.__name__.replace("_", "-")
        (section,) = re.findall(rf"^## {name} \{{.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        rows = re.findall(r"^\| `.*\|$", section, re.MULTILINE)
        assert len(rows) == len(inspect.signature(command.callback).parameters), name
        assert not [row for row in rows if re.match(r"\| [^|]*\|\s*\|", row)], "says nothing"


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://a.example/x.js"></script>', 1),
        ('<img src="//a.example/x.png">', 1),
        ('<link rel="stylesheet" href="HTTP://a.example/x.css">', 1),
        ('<link rel="preconnect" href="https://a.example">', 1),
        ("<style>p { background: url('https://a.example/x') }</style>", 1),
        ('<a href="https://a.example">', 0),
        ('<link rel="canonical" href="https://a.example"><script src="x.js"></script><img src="x.png">', 0),
    ],
)
def test_what_a_page_takes_from_outside_is_found(html, found, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text(html)
    assert len(list(script("check_site")["outside"](tmp_path))) == found
    (tmp_path / "a.css").write_text('@import "https://a.example/b.css"; p { color: red }')
    assert len(list(script("check_site")["outside"](tmp_path))) == found + 1


@pytest.mark.parametrize("package", ["gnnpatient", "gnnpatient.patient", "gnnpatient.study"])
def test_every_public_name_is_in_the_reference(package):
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/api").glob("*.md")))
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(shown) == len(set(shown))
    module = importlib.import_module(package)
    objects = {id(pydoc.locate(name)) for name in shown}
    names = [name for name in module.__all__ if not name.startswith("__")]
    assert names and not [name for name in names if id(getattr(module, name)) not in objects]


def test_the_citation_is_of_this_version_and_names_nobody():
    import yaml

    from gnnpatient import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["authors"] == [{"name": "The gnnpatient authors"}]
    assert {"cff-version", "message", "title", "type", "license"} <= set(citation)


# ---- the convention itself

PAGE = """
```csv title="tables/a.csv"
id,x
1,2
```
- in a list

    ```python
    x = 1
    ```

```bash
gnnpatient --version  # a comment
```
```python
>>> from pathlib import Path
>>> x, Path("tables/a.csv").read_text().split()[1]
(1, '1,2')

```
```toml
[nodes.lab]
```
"""


def test_blocks_share_names_and_files(namespace, tmp_path):
    run_page(PAGE, "page.md", namespace, tmp_path)
    assert namespace["x"] == 1 and "Path" in namespace


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```console\n$ ls\n```", r"page.md:1: a block of 'console'"),
        ("```\nno language\n```", r"page.md:1: a block of ''"),
        ("```json\n{}\n```", r"page.md:1: a block of 'json'"),
        ('```python title="a.py"\n1\n```', r"'python' block has no title"),
        ('```csv title="../a.csv"\n1\n```', r"page.md:1: ../a.csv"),
        ("```text\nopen", r"line 1: the block has no end"),
        ("```bash\nls\n```", r"'ls' is not a gnnpatient command"),
        ("```bash\ngnnpatient --version | cat\n```", r"needs a shell"),
        ("```bash\ngnnpatient pakc\n```", r"page.md:1: gnnpatient pakc"),
        ("```python\n>>> 1 + 1\n3\n```", r"(?s)Expected:.*3.*Got:.*2"),
        ("```python\n>>> 1 / 0  # doctest: +SKIP\n```", r"runs or is no example"),
    ],
)
def test_a_block_outside_the_convention_fails(block, message, namespace, tmp_path):
    with pytest.raises(AssertionError, match=message):
        run_page(block, "page.md", namespace, tmp_path)


def test_an_error_shows_its_line_and_a_page_has_no_network(namespace, tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        run_page("\n```python\na = 1\na / 0\n```", "page.md", namespace, tmp_path)
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == ("page.md", 4)
    with pytest.raises(tomllib.TOMLDecodeError):
        run_page("```toml\na = \n```", "page.md", namespace, tmp_path)
    with pytest.raises(OSError, match="needs no network"):
        socket.create_connection(("example.org", 80))


def test_a_cell_shows_its_last_value(namespace):
    class Broken:
        def _repr_html_(self) -> int:
            return 1

    namespace["broken"] = Broken()
    run_cell("y = 2\ny", "cell", namespace)
    assert namespace["y"] == 2
    with pytest.raises(AssertionError):
        run_cell("broken", "cell", namespace)
