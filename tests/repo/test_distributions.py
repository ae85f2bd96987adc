"""Every folder with a pyproject.toml is a complete distribution, in lock step with the others."""

from __future__ import annotations

import importlib
import re
from importlib import metadata

DOORS = {"camkit", "camkit-core"}


def test_all_versions_are_one_version(root, distributions):
    versions = {dist.name: dist.project["version"] for dist in distributions.values()}
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text("utf-8"), re.M)
    assert set(versions.values()) == {cited[1]}, versions


def test_packages_say_the_version_of_their_metadata(first_party):
    for dist in first_party.values():
        module = importlib.import_module(dist.package)
        assert module.__file__, f"{dist.package} is an empty folder on sys.path, not the package"
        assert module.__version__ == metadata.version(dist.name) == dist.project["version"]


def test_core_is_required_in_the_range_of_the_version(distributions):
    major, minor, _ = distributions["camkit-core"].project["version"].split(".")
    range_ = f"camkit-core>={major}.{minor}.0,<{major}.{int(minor) + 1}"
    for dist in distributions.values():
        ours = [line for line in dist.project["dependencies"] if line.startswith("camkit")]
        assert ours == ([] if dist.name == "camkit-core" else [range_]), dist.name


def test_extras_of_the_front_door_are_the_other_distributions(first_party):
    version = first_party["camkit"].project["version"]
    extras = dict(first_party["camkit"].project["optional-dependencies"])
    everything = extras.pop("all")
    pins = {line for lines in extras.values() for line in lines}
    assert pins == {f"{name}=={version}" for name in first_party.keys() - DOORS}
    assert sorted(everything) == sorted(pins)
    assert all(len(lines) == 1 for lines in extras.values())


def test_an_extra_is_called_like_the_entry_point_it_brings(distributions):
    extras = dict(distributions["camkit"].project["optional-dependencies"])
    del extras["all"]
    for extra, (pin,) in extras.items():
        dist = distributions[pin.partition("==")[0]]
        assert dist.project["entry-points"]["camkit"] == {extra: f"{dist.package}.plugin"}


def test_siblings_come_from_the_workspace(first_party):
    for dist in first_party.values():
        wanted = dist.project["dependencies"] + [
            line
            for lines in dist.project.get("optional-dependencies", {}).values()
            for line in lines
        ]
        siblings = {re.match(r"[\w.-]+", line)[0] for line in wanted} & first_party.keys()
        sources = dist.pyproject.get("tool", {}).get("uv", {}).get("sources", {})
        assert sources == {name: {"workspace": True} for name in siblings}, dist.name


def test_every_distribution_is_complete(root, distributions):
    license_text = (root / "LICENSE").read_text("utf-8")
    assert "Apache License" in license_text
    for dist in distributions.values():
        assert (dist.folder / "LICENSE").read_text("utf-8") == license_text
        assert (dist.folder / "README.md").read_text("utf-8").startswith(f"# {dist.name}\n")
        assert (dist.folder / "src" / dist.package / "py.typed").is_file()
        assert (root / "tests" / dist.package).is_dir()
        assert dist.folder.name == dist.package
        assert dist.project["requires-python"] == ">=3.11"
        assert dist.project["license"] == "Apache-2.0"


def test_no_distribution_folder_is_itself_a_package(root, tracked):
    beside = [path for path in tracked if path.name == "__init__.py"]
    assert beside
    for path in beside:
        assert not (path.parent / "pyproject.toml").exists(), path.relative_to(root)


def test_import_rules_name_every_package(first_party, tooling):
    packages = {dist.package for dist in first_party.values()}
    rules = tooling["tool"]["importlinter"]
    assert set(rules["root_packages"]) == packages
    core, independent, door, back = rules["contracts"]
    rooms = packages - {"camkit", "camkit_core"}
    assert packages - {"camkit_core"} <= set(core["forbidden_modules"])
    assert set(independent["modules"]) == rooms
    assert set(door["forbidden_modules"]) == set(back["source_modules"]) == rooms
