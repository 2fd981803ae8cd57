"""Every public class and function says what it takes, gives and refuses, in numpydoc.

Public: no underscore, at top level of a module or in a public class. A command of the command line describes
its options where they are declared, a key of the TOML likewise.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gnnpatient

ROOT = Path(gnnpatient.__file__).parent
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if path.name != "_moved.py")
SECTION = re.compile(r"^[ ]*(\w[\w ]*)\n[ ]*-{3,}$", re.MULTILINE)
DECLARED = ("Record", "BaseModel")  # pydantic: each key has its description beside it


def named(docstring: str, *sections: str) -> set[str]:
    """The names that some sections describe."""
    parts = SECTION.split(docstring)
    lines = [line for title, text in zip(parts[1::2], parts[2::2], strict=True) for line in text.split("\n")
             if title in sections]  # fmt: skip
    heads = [line.split(" :")[0] for line in lines if " :" in line or re.fullmatch(r"\s*[\w*, ]+", line)]
    return {name for head in heads for name in re.findall(r"\w+", head)}


def arguments(function: ast.FunctionDef, *, method: bool) -> list[str]:
    of = function.args
    names = [one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
    static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
    return names[method and not static :] + [one.arg for one in (of.vararg, of.kwarg) if one]


def lacks(node: ast.FunctionDef | ast.ClassDef, *, method: bool = False) -> Iterator[str]:
    """What the docstring of a class or function does not say."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        yield f"{node.name}: no docstring"
        return
    if isinstance(node, ast.ClassDef):
        public = [m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
        for one in public:
            yield from (f"{node.name}.{missing}" for missing in lacks(one, method=True))
        if any(base.endswith(DECLARED) or base.endswith("Spec") for base in map(ast.unparse, node.bases)):
            return
        annotated = [m.target for m in node.body if isinstance(m, ast.AnnAssign)]
        fields = [m.id for m in annotated if isinstance(m, ast.Name) and not m.id.startswith("_")]
        starts = [m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"]
        wanted = fields or [name for start in starts for name in arguments(start, method=True)]
        described = named(docstring, "Attributes", "Parameters", "Other Parameters")
        yield from (f"{node.name}: {name} is not described" for name in wanted if name not in described)
        return
    decorators = [ast.unparse(d) for d in node.decorator_list]
    if any("property" in d or "validator" in d or d.endswith("overload") for d in decorators):
        return
    described = named(docstring, "Parameters", "Other Parameters")
    names = arguments(node, method=method)
    yield from (f"{node.name}: {name} is not described" for name in names if name not in described)
    gives = node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn", "Self")
    if gives and not re.search(r"^[ ]*(Returns|Yields)\n[ ]*-{3,}$", docstring, re.MULTILINE):
        yield f"{node.name}: what it returns"


@pytest.mark.parametrize("file", FILES)
def test_what_is_public_is_described(file):
    tree = ast.parse((ROOT / file).read_text())
    commands = {
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"
        for name in ast.walk(node.value)
        if isinstance(name, ast.Name)
    }
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert not [missing for node in public if node.name not in commands for missing in lacks(node)]
