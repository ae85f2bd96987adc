"""`import camkit` is cheap, complete and honest about what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

import camkit
import camkit_core

HEAVY = ("torch", "numpy", "pydantic", "PIL", "torchvision")


def python(code: str, **env: str) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_every_public_name_is_there() -> None:
    assert set(camkit.__all__) == {
        "Explainer",
        "__version__",
        "compare",
        "explain",
        "load_model",
        "methods",
        "open_photo",
        "plugins",
    }
    for name in camkit.__all__:
        assert getattr(camkit, name) is not None
    assert set(camkit.__all__) <= set(dir(camkit))


def test_the_engine_is_cores() -> None:
    assert camkit.explain is camkit_core.explain
    assert camkit.compare is camkit_core.compare
    assert camkit.Explainer is camkit_core.Explainer


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'camkit' has no attribute 'gradcam'"):
        _ = camkit.gradcam  # type: ignore[attr-defined]


def test_version_is_the_distributions() -> None:
    assert camkit.__version__ == metadata.version("camkit")


def test_import_scans_no_plugin() -> None:
    code = """
        import sys, camkit
        print([name for name in sys.modules if name.startswith("camkit_")])
    """
    assert python(code) == "[]"


def test_listings_import_nothing_heavy() -> None:
    code = f"""
        import sys, camkit
        assert camkit.methods() and camkit.plugins()
        print([name for name in {HEAVY} if name in sys.modules])
    """
    assert python(code) == "[]"


def test_listing_costs_less_than_a_quarter_of_a_second(tmp_path: Path) -> None:
    def seconds(code: str) -> float:
        # Processor time, so that busy neighbors do not count; bytecode cached, as after install.
        code = f"{code}; import time; print(time.process_time())"
        return float(python(code, PYTHONPYCACHEPREFIX=str(tmp_path), PYTHONDONTWRITEBYTECODE=""))

    bare = min(seconds("pass") for _ in range(4))
    listing = min(seconds("import camkit; assert camkit.methods()") for _ in range(4))
    assert listing - bare < 0.25


def test_methods_are_sorted_entries_of_installed_packages() -> None:
    found = camkit.methods()
    assert [entry.name for entry in found] == sorted(entry.name for entry in found)
    assert {"gradcam", "eigencam"} <= {entry.name for entry in found}
    assert {entry.kind for entry in found} == {"method"}


def test_plugins_say_where_they_come_from() -> None:
    found = {plugin.distribution: plugin for plugin in camkit.plugins()}
    assert found["camkit-tasks"].version == metadata.version("camkit-tasks")
    assert found["camkit-tasks"].status == "ok"


def test_a_photo_is_explained_in_four_lines(net: str, photo: str) -> None:
    model = camkit.load_model(net)
    batch = model.preprocess(camkit.open_photo(photo))
    explanation = camkit.explain(model, batch, "gradcam", target="bright", layers="relu")
    # The white box of the photo, columns 50 to 60 and rows 10 to 20 of 90 x 60, resized by 0.8
    # to 72 x 48 and cropped by 12 columns.
    rows, columns = (explanation.maps[0] > 0.5).nonzero().T
    assert (rows.min(), rows.max()) == (8, 15)
    assert (columns.min(), columns.max()) == (28, 35)


def test_without_the_tasks_package_the_extra_is_named() -> None:
    code = """
        import camkit
        try:
            camkit.load_model("torchvision:resnet18@none")
        except Exception as error:
            print(type(error).__name__, error)
    """
    text = python(code, CAMKIT_PLUGINS_BLOCK="camkit-tasks")
    assert text.startswith("ModelError")
    assert "camkit[tasks]" in text
