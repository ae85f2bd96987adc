"""Listings stay light, and packages use what core publishes."""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions

import pytest

import camkit_core

HEAVY = ("torch", "numpy", "PIL", "torchvision", "skimage", "pydantic", "cyclopts", "rich")


def test_listing_methods_imports_neither_torch_nor_numpy(fresh):
    code = (
        "import json, sys, camkit; names = [entry.name for entry in camkit.methods()]; "
        "camkit.plugins(); print(json.dumps([names, sorted(sys.modules)]))"
    )
    names, modules = json.loads(fresh(code))
    assert "gradcam" in names
    assert not set(HEAVY) & set(modules)


def test_importing_the_front_door_scans_no_plugin(fresh):
    modules = fresh("import sys, camkit; print(*sorted(sys.modules))").split()
    assert "camkit" in modules
    assert not [name for name in modules if name.endswith(".plugin")]


@pytest.mark.parametrize("heavy", ["torch", "numpy", "PIL", "torchvision", "skimage"])
def test_entry_points_work_where_a_heavy_library_is_missing(fresh, first_party, heavy):
    plugins = [f"{dist.package}.plugin" for dist in first_party.values() if _offers(dist)]
    assert plugins
    code = (
        f"import sys, importlib; sys.modules[{heavy!r}] = None\n"
        f"for name in {plugins}: importlib.import_module(name).camkit_entries()\n"
        "print('all')"
    )
    assert fresh(code) == "all"


def test_packages_import_only_public_names_of_core(root, distributions):
    private = []
    for dist in distributions.values():
        if dist.name == "camkit-core":
            continue
        for path in sorted((dist.folder / "src").rglob("*.py")):
            found = _taken_from_core(ast.parse(path.read_text("utf-8")))
            private += [f"{path.relative_to(root)}: {name}" for name in found]
    assert private == []


def test_packages_declare_every_library_they_import(root, distributions):
    provided_by = packages_distributions()
    undeclared = []
    for dist in distributions.values():
        declared = _declared(dist, distributions)
        for path in sorted((dist.folder / "src").rglob("*.py")):
            for library in _libraries(ast.parse(path.read_text("utf-8"))):
                names = {_normal(name) for name in provided_by.get(library, [library])}
                if library != dist.package and not names & declared:
                    undeclared.append(f"{path.relative_to(root)}: {library}")
    assert undeclared == []


def _declared(dist, distributions) -> set[str]:
    """What a distribution requires, its extras too, and what core requires where it does."""
    extras = dist.project.get("optional-dependencies", {}).values()
    lines = [*dist.project["dependencies"], *(line for extra in extras for line in extra)]
    names = {_normal(re.match(r"[\w.-]+", line)[0]) for line in lines}
    return names.union(
        *(_declared(distributions[n], distributions) for n in names & {*distributions})
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _libraries(tree: ast.Module) -> set[str]:
    """Top-level names of everything that running the file imports from outside Python."""
    found: set[str] = set()
    checked = [node for node in ast.walk(tree) if _for_type_checkers(node)]
    unseen = {id(node) for block in checked for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _offers(dist):
    return "camkit" in dist.project.get("entry-points", {})


def _taken_from_core(tree: ast.Module) -> list[str]:
    """What a file imports from core that core does not publish."""
    public = set(camkit_core.__all__)
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "camkit_core":
            names += [alias.name for alias in node.names if alias.name not in public]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("camkit_core."):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names if a.name.startswith("camkit_core.")]
    return [name for name in names if name.split(".")[:2] != ["camkit_core", "testing"]]
