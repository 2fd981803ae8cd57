"""Take the outputs out of notebooks: `strip_outputs.py FILE ...`; exit code 1 if there were any."""

import json
import sys
from pathlib import Path


def stripped(text: str) -> str:
    """The notebook with no outputs, no execution counts and none of the editor's metadata."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    notebook["metadata"] = {k: v for k, v in notebook["metadata"].items() if k == "kernelspec"}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    changed = False
    for path in map(Path, sys.argv[1:]):
        before = path.read_text(encoding="utf-8")
        after = stripped(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path}: outputs taken out")
            changed = True
    sys.exit(changed)
