"""Makes the helper package `core_proof` importable from any working directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny networks: threads cost more than they give."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller's shell says about plugins is not what these tests are about."""
    for name in ("CAMKIT_STRICT_PLUGINS", "CAMKIT_PLUGINS_ALLOW", "CAMKIT_PLUGINS_BLOCK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., str]:
    """Run code in a new interpreter, away from the checkout; its standard output."""

    def run(code: str, *paths: Path, **settings: str) -> str:
        import os

        search = os.pathsep.join(map(str, paths))
        environment = {**os.environ, "PYTHONPATH": search, **settings}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
