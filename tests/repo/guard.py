"""Import every module of one distribution where nothing can be imported that it does not declare.

`python guard.py camkit-core`, in an environment that has much more. What functions import when they
run is not seen here; the nox session `alone` runs the tests for that.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from packaging.requirements import Requirement


def main(distribution: str) -> int:
    """Exit code 0 if all its modules could be imported."""
    # Said by torch where NumPy cannot be imported.
    warnings.filterwarnings("ignore", "Failed to initialize NumPy")
    started = time.perf_counter()
    package = distribution.replace("-", "_")
    Fence.raise_around(closure(distribution))
    found, failures = 0, []
    for name in modules(package):
        found += 1
        try:
            importlib.import_module(name)
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}\n{_where(error, package)}")
    print(*failures, sep="\n", end="\n" if failures else "")
    seconds = time.perf_counter() - started
    print(f"{distribution}: {found} modules, {len(failures)} failed, {seconds:.1f} s")
    return 1 if failures or not found else 0


class Fence(PathFinder):
    """Finds on `sys.path` what is not forbidden."""

    forbidden: frozenset[str] = frozenset()

    @classmethod
    def raise_around(cls, allowed: set[str]) -> None:
        """From now on, what only other distributions provide is not installed."""
        provided = {**metadata.packages_distributions(), **_own_packages()}
        cls.forbidden = frozenset(
            package
            for package, distributions in provided.items()
            if not allowed.intersection(map(normal, distributions))
        )
        sys.meta_path[:] = [cls if finder is PathFinder else finder for finder in sys.meta_path]
        for name in [name for name in sys.modules if cls.forbids(name)]:
            del sys.modules[name]

    @classmethod
    def forbids(cls, name: str) -> bool:
        """Whether a module belongs to something that is not declared."""
        return name.partition(".")[0] in cls.forbidden

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As if the forbidden were not there, for `importlib.util.find_spec` too."""
        return None if cls.forbids(name) else super().find_spec(name, path, target)


def closure(distribution: str) -> set[str]:
    """A distribution and everything it requires without extras, directly or not."""
    found, ahead = {normal(distribution)}, [(distribution, frozenset([""]))]
    seen = set(ahead)
    while ahead:
        name, extras = ahead.pop()
        for requirement in _requirements(name, extras):
            following = (requirement.name, frozenset(["", *requirement.extras]))
            found.add(normal(requirement.name))
            if following not in seen:
                seen.add(following)
                ahead.append(following)
    return found


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # for another platform
        return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def _own_packages() -> dict[str, list[str]]:
    """Import names of camkit's distributions; those installed in place do not record them."""
    names = {normal(dist.name) for dist in metadata.distributions() if dist.name}
    return {name.replace("-", "_"): [name] for name in names if re.match(r"camkit(-|$)", name)}


def modules(package: str) -> Iterator[str]:
    """The package and all modules in it, but not those that run something."""
    yield package
    paths = importlib.import_module(package).__path__
    for found in pkgutil.walk_packages(paths, f"{package}."):
        if not found.name.endswith(".__main__"):
            yield found.name


def normal(distribution: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _where(error: Exception, package: str) -> str:
    """The last line of the package on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{package}/" in frame.filename.replace("\\", "/")]
    return f"  at {ours[-1].filename}:{ours[-1].lineno}" if ours else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
