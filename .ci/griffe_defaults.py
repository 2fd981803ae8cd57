"""For the site: a default that is written `Config.name` is shown as the value that it stands for."""

from __future__ import annotations

from typing import Any

import griffe


class Defaults(griffe.Extension):
    """Replaces such defaults once the package is read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        _resolve(pkg, pkg.path, loader)


def _resolve(place: griffe.Object, package: str, loader: griffe.GriffeLoader) -> None:
    for member in place.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Function):
            for parameter in member.parameters:
                default = parameter.default
                if isinstance(default, griffe.ExprAttribute) and default.canonical_path.startswith(package):
                    source = loader.modules_collection[default.canonical_path]
                    if isinstance(source, griffe.Attribute) and source.value is not None:
                        parameter.default = source.value
        elif isinstance(member, griffe.Module | griffe.Class):
            _resolve(member, package, loader)
