"""Link what a wheel declares that it needs from this environment into another, and no more.

pip would unpack the same two gigabytes again. What the wheel needs and does not declare is not there, so it
fails outside as it would for a user; `pip check` says afterwards whether all that is declared is there.
"""

import os
import shutil
import sys
from importlib.metadata import Distribution, distribution
from importlib.util import cache_from_source
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def needed(wheel: Distribution) -> dict[str, Distribution]:
    """All that a package needs, directly or not, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(wheel, "")]
    while todo:
        dist, extra = todo.pop()
        for line in dist.requires or []:
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            for part in ("", *need.extras):
                if (need.name, part) not in seen:
                    seen.add((need.name, part))
                    found[need.name] = distribution(need.name)
                    todo.append((found[need.name], part))
    return found


def link(dist: Distribution, target: Path) -> None:
    """Its files below site-packages, and what Python has compiled of them."""
    for file in dist.files or []:
        if ".." in file.parts:  # commands, manuals
            continue
        source = Path(str(dist.locate_file(file)))
        for path in (source, *[Path(cache_from_source(str(source)))] * (source.suffix == ".py")):
            to = target / path.relative_to(dist.locate_file(""))
            if not path.is_file() or to.exists():
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, to)
            except OSError:  # another disk
                shutil.copy2(path, to)


if __name__ == "__main__":
    place = Path(sys.argv[1])  # site-packages, in which the wheel lies
    (wheel,) = Distribution.discover(name="gnnpatient", path=[str(place)])
    for dist in needed(wheel).values():
        link(dist, place)
