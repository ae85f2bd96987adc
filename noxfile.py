"""Sessions of the monorepo. Distributions are found in the tree, never listed here."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from configparser import ConfigParser
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "types"]

ROOT = Path(__file__).resolve().parent
DIST = ROOT / "dist"
STRICT = {"CAMKIT_STRICT_PLUGINS": "1"}
PYTEST = ("pytest", "-n", "auto")
"""On all cores; `-- -n 0` is one process, for a debugger."""
LOWEST = ("--resolution", "lowest-direct")
PYTHON: dict[str, str] = {}
"""Interpreters of environments that other sessions use: by the session that made them."""


_PRODUCTS = shutil.ignore_patterns("__pycache__", ".*_cache", "dist")


@dataclass(frozen=True)
class Distribution:
    """One folder with a pyproject.toml."""

    folder: Path
    pyproject: dict[str, Any]

    @property
    def name(self) -> str:
        """Name on the package index."""
        return str(self.pyproject["project"]["name"])

    @property
    def package(self) -> str:
        """Import name."""
        return self.name.replace("-", "_")

    @property
    def test_needs(self) -> list[str]:
        """What its tests need besides it; `itself[extra]` asks for one of its own extras."""
        return list(nox.project.dependency_groups(self.pyproject, "test"))

    @property
    def requires(self) -> set[str]:
        """Names of the distributions it declares, extras as far as its tests ask for them."""
        project, lines = self.pyproject["project"], []
        for extra, needs in project.get("optional-dependencies", {}).items():
            lines += needs if f"{self.name}[{extra}]" in self.test_needs else []
        return {_name(line) for line in [*project["dependencies"], *lines]}


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _discover() -> dict[str, Distribution]:
    files = sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")])
    found = [Distribution(file.parent, tomllib.loads(file.read_text("utf-8"))) for file in files]
    return {dist.name: dist for dist in found}


ALL = _discover()
EXAMPLE = ALL["camkit-example"]
OURS = [dist for dist in ALL.values() if dist is not EXAMPLE]
"""Everything but the example, which belongs to a third party as far as users are concerned."""
TOOLING = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


# -- sessions ------------------------------------------------------------------------------------


@nox.session(reuse_venv=True)
def tests(session: nox.Session) -> None:
    """All tests but the comparisons with peers; everything installed in place."""
    others = [*_test_needs(ALL.values()), *_group("plots")]
    _install(session, ALL.values(), *others, editable=True)
    session.run(*PYTEST, "--ignore=tests/integration", *session.posargs, env=STRICT)


@nox.session(reuse_venv=True)
def together(session: nox.Session) -> None:
    """Everything installed at once, in strict mode: every name is clear and leads somewhere."""
    _install(session, ALL.values(), *_test_needs(ALL.values()), editable=True)
    session.run("python", str(ROOT / "tests/repo/resolve.py"), env=STRICT)
    PYTHON["together"] = str(Path(session.bin, "python"))


@nox.session(venv_backend="none", requires=["together"])
@nox.parametrize("dist", [nox.param(dist, id=dist.package) for dist in ALL.values()])
def guard(session: nox.Session, dist: Distribution) -> None:
    """Every module of one distribution, where only what it declares can be imported."""
    script = str(ROOT / "tests/repo/guard.py")
    session.run(PYTHON["together"], script, dist.name, external=True)


@nox.session
@nox.parametrize("dist", [nox.param(dist, id=dist.package) for dist in ALL.values()])
def alone(session: nox.Session, dist: Distribution) -> None:
    """One distribution with only what it declares, tested from outside the checkout."""
    family = _family(dist)
    _install(session, family, *_test_needs([dist]))
    _prove_origin(session, {member.name: member.folder for member in family})
    _test_outside(session, [dist], "-c", str(ROOT / "pyproject.toml"))


@nox.session
def wheels(session: nox.Session) -> None:
    """Source archives, and wheels built from them, into `dist/`; their contents are checked."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.install("build[uv]")
    for dist in ALL.values():
        command = ("python", "-m", "build", "--installer=uv", "--outdir", str(DIST))
        session.run(*command, str(dist.folder), silent=True)
        _check_wheel(session, dist)


@nox.session(requires=["wheels"])
def built(session: nox.Session) -> None:
    """The wheels in a fresh environment, every distribution's tests from outside the checkout."""
    files = _install_wheels(session, ALL.values(), *_test_needs(ALL.values()))
    _prove_origin(session, files)
    limit = ("-ofaulthandler_timeout=600", "-ofaulthandler_exit_on_timeout=true")
    _test_outside(session, ALL.values(), "--import-mode=importlib", *limit)


@nox.session
def minimums(session: nox.Session) -> None:
    """All tests with the oldest versions that the distributions say they work with."""
    if session.venv_backend != "uv":
        session.error("only uv chooses lowest versions: pip install 'nox[uv]'")
    _install(session, OURS, *_test_needs(OURS), *LOWEST)
    _test_outside(session, OURS, "-c", str(ROOT / "pyproject.toml"))


@nox.session(requires=["wheels"])
def external(session: nox.Session) -> None:
    """The author's guide, then the example as a third party's plugin, sound and broken."""
    _install_wheels(session, OURS, "build[uv]", "pip", *EXAMPLE.test_needs)
    with tempfile.TemporaryDirectory(prefix="camkit-external-") as place, session.chdir(place):
        session.run("python", str(ROOT / "tests/repo/guide.py"), place)
        session.run("python", "-m", "pip", "uninstall", "--yes", "camkit-fewcam", silent=True)
        copy = shutil.copytree(EXAMPLE.folder, Path(place, EXAMPLE.name), ignore=_PRODUCTS)
        session.run("python", str(ROOT / "tests/repo/external.py"), str(copy))


@nox.session(reuse_venv=True)
def parity(session: nox.Session) -> None:
    """Numbers side by side with the released peers; `-- -m "not slow"` is the short form."""
    _install_with_peers(session)
    session.run(*PYTEST, "tests/integration", *session.posargs, env=STRICT)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Style, formatting and the architecture's import rules."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = os.pathsep.join(str(dist.folder / "src") for dist in ALL.values())
    session.run("lint-imports", env={"PYTHONPATH": sources})


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """Strict type check of every distribution."""
    _install(session, ALL.values(), *_group("types"), editable=True)
    session.run("mypy", *(str(dist.folder.relative_to(ROOT) / "src") for dist in ALL.values()))


@nox.session(reuse_venv=True)
def snapshots(session: nox.Session) -> None:
    """Write the files that are made from others: the interface on record, the template."""
    _install(session, OURS, editable=True)
    session.run("python", str(ROOT / "tests/repo/snapshots.py"))


@nox.session(reuse_venv=True)
def demo(session: nox.Session) -> None:
    """Install everything as a user would and explain pictures into `demo_output/`."""
    _install(session, OURS, extra="all")
    session.run("camkit", "demo", "-o", "demo_output", *session.posargs)


@nox.session(reuse_venv=True)
def pictures(session: nox.Session) -> None:
    """Make the README's pictures again, from the demonstration."""
    _install(session, OURS, extra="all")
    with tempfile.TemporaryDirectory(prefix="camkit-pictures-") as place:
        session.run("camkit", "demo", "-o", place)
        for name in ("grid.png", "reasons.png"):
            shutil.copy(Path(place, name), ROOT / "docs/images" / name)


@nox.session(reuse_venv=True)
def train(session: nox.Session) -> None:
    """Train the demonstration's networks again; `-- all --check` only checks those that ship."""
    _install(session, OURS, extra="all", editable=True)
    words = session.posargs or ("all",)
    session.run("python", "-m", "camkit_playground.train", *words)


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Speed and memory side by side with the released peers; arguments go to the harness."""
    _install_with_peers(session)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(reuse_venv=True)
def bench_perturbation(session: nox.Session) -> None:
    """Methods that run the model again, beside the peers' long runs: half an hour and more."""
    _install_with_peers(session)
    words = session.posargs or ("--peers", "--rounds", "1")
    session.run("python", "-m", "benchmarks.perturbation", *words)
    session.run("python", "-m", "benchmarks.perturbation_memory")


# -- installing ----------------------------------------------------------------------------------


def _install(
    session: nox.Session,
    dists: Iterable[Distribution],
    *others: str,
    editable: bool = False,
    extra: str = "",
) -> None:
    """Install distributions by path, together, so that siblings satisfy one another."""
    paths: list[str] = []
    chosen = list(dists)
    for dist in chosen:
        extras = dist.pyproject["project"].get("optional-dependencies", {})
        wanted = f"[{extra}]" if extra in extras else ""
        paths += ["--editable"] * editable + [f"{dist.folder}{wanted}"]
    session.install(*_as_given(session, chosen), *paths, *others)


def _install_wheels(
    session: nox.Session, dists: Iterable[Distribution], *others: str
) -> dict[str, Path]:
    """Install the wheels of `dist/`, the front door with all its extras; the files by name."""
    chosen = list(dists)
    files = {dist.name: _wheel(dist) for dist in chosen}
    session.install(
        *_as_given(session, chosen),
        *(str(file) for name, file in files.items() if name != "camkit"),
        f"camkit[all] @ {files['camkit'].as_uri()}",
        *others,
    )
    return files


def _install_with_peers(session: nox.Session) -> None:
    others = [*_test_needs(OURS), *_group("plots"), *_group("peers")]
    _install(session, OURS, *others, editable=True)


def _as_given(session: nox.Session, dists: Iterable[Distribution]) -> list[str]:
    """Options of uv so that it installs the given paths, built anew, and no workspace member."""
    if session.venv_backend != "uv":
        return []
    return ["--no-sources", *(f"--reinstall-package={dist.name}" for dist in dists)]


def _family(dist: Distribution) -> list[Distribution]:
    """The distribution and the siblings it declares, directly or not."""
    found, ahead = {dist.name}, [dist]
    while ahead:
        new = (ahead.pop().requires & ALL.keys()) - found
        found |= new
        ahead += [ALL[name] for name in new]
    return [ALL[name] for name in sorted(found)]


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(TOOLING, name))


def _test_needs(dists: Iterable[Distribution]) -> list[str]:
    return sorted({line for dist in dists for line in dist.test_needs} | {*_group("spread")})


# -- proofs --------------------------------------------------------------------------------------


def _prove_origin(session: nox.Session, origins: dict[str, Path]) -> None:
    """Stop unless exactly these of our distributions are installed, each from its own path."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = str(session.run("python", "-c", ask, silent=True, log=False)).strip()
    here = {dist.name.replace("_", "-"): dist for dist in metadata.distributions(path=[site])}
    ours = {name: dist for name, dist in here.items() if re.match(r"camkit(-|$)", name)}
    if ours.keys() != origins.keys():
        session.error(f"installed {sorted(ours)}, expected {sorted(origins)}")
    for name, dist in ours.items():
        record = json.loads(dist.read_text("direct_url.json") or "{}")
        if record.get("url") != origins[name].as_uri() or record.get("dir_info", {}).get(
            "editable"
        ):
            session.error(f"{name} was not installed from {origins[name]}: {record}")
    session.log(f"from their own paths: {', '.join(sorted(ours))}")


def _test_outside(session: nox.Session, dists: Iterable[Distribution], *options: str) -> None:
    """Run copies of the tests where no folder of the checkout can be imported by accident."""
    with tempfile.TemporaryDirectory(prefix="camkit-outside-") as place:
        for dist in dists:
            source = ROOT / "tests" / dist.package
            if not source.is_dir():
                session.error(f"{dist.name} has no tests in {source.relative_to(ROOT)}")
            shutil.copytree(source, Path(place, "tests", dist.package), ignore=_PRODUCTS)
        bare = ("--rootdir", place, "-p", "no:cacheprovider")
        with session.chdir(place):
            session.run(*PYTEST, *options, *bare, "tests", *session.posargs, env=STRICT)


def _wheel(dist: Distribution) -> Path:
    return DIST / f"{dist.package}-{dist.pyproject['project']['version']}-py3-none-any.whl"


def _check_wheel(session: nox.Session, dist: Distribution) -> None:
    """The wheel holds the package, its licence and entry points, and nothing else."""
    project, source = dist.pyproject["project"], dist.folder / "src"
    info = f"{dist.package}-{project['version']}.dist-info"
    with zipfile.ZipFile(_wheel(dist)) as archive:
        names = set(archive.namelist())
        points = _entry_points(archive, f"{info}/entry_points.txt")
    files = {name for name in names if not name.startswith(f"{info}/")}
    written = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    declared = {"console_scripts": project["scripts"]} if "scripts" in project else {}
    wrong = [
        f"files differ from src/: {sorted(files ^ written)}" * (files != written),
        "no py.typed" * (f"{dist.package}/py.typed" not in files),
        "no licence file" * (f"{info}/licenses/LICENSE" not in names),
        f"tests inside: {_tests(files)}" * bool(_tests(files)),
        f"entry points {points}" * (points != declared | project.get("entry-points", {})),
    ]
    if any(wrong):
        session.error(f"wheel of {dist.name}: " + "; ".join(filter(None, wrong)))
    session.log(f"wheel of {dist.name}: {len(files)} files, as in src/")


def _tests(files: Iterable[str]) -> list[str]:
    return [name for name in files if re.search(r"(^|/)(tests/|test_[^/]*$|conftest\.py$)", name)]


def _entry_points(archive: zipfile.ZipFile, name: str) -> dict[str, dict[str, str]]:
    if name not in archive.namelist():
        return {}
    parser = ConfigParser(delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(archive.read(name).decode())
    return {section: dict(parser[section]) for section in parser.sections()}
