"""Module paths of version 0.1, for one release: each still imports, warns, and finds its names where they are now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# An old module, and the modules below gnnpatient that hold its names today, the likeliest first.
MOVED: dict[str, tuple[str, ...]] = {}
RENAMED: dict[str, str] = {}  # names of classes and functions that are called otherwise


class Moved(MetaPathFinder, Loader):
    """Finds what is no longer there; asked only after every other finder has failed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        is_package = any(other.startswith(f"{name}.") for other in MOVED)
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(f"{__package__}.")
        homes = MOVED[old]
        warnings.warn(
            f"gnnpatient.{old} is now gnnpatient.{homes[0]}; the old path goes with the next release",
            DeprecationWarning,
            stacklevel=_depth(),
        )

        def find(name: str) -> Any:
            for home in homes:
                found = import_module(f"{__package__}.{home}")
                for candidate in (name, RENAMED.get(name, name)):
                    if hasattr(found, candidate):
                        return getattr(found, candidate)
            raise AttributeError(f"gnnpatient.{old} has no attribute {name!r}, nor has {' or '.join(homes)}")

        module.__getattr__ = find  # type: ignore[method-assign]


def _depth() -> int:
    """The frames between a warning here and the import statement that asked for an old path."""
    frame, depth = sys._getframe(1), 1
    while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_globals is globals()):
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth
