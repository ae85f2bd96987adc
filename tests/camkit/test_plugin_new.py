"""`camkit plugins new`: a package under a good name, or one line that says why not."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FILES = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".github/workflows/tests.yml",
    "src/camkit_ridge_line/__init__.py",
    "src/camkit_ridge_line/py.typed",
    "src/camkit_ridge_line/plugin.py",
    "src/camkit_ridge_line/method.py",
    "src/camkit_ridge_line/target.py",
    "src/camkit_ridge_line/reshape.py",
    "tests/test_method.py",
    "tests/test_target.py",
    "tests/test_reshape.py",
    "tests/test_plugin.py",
}


def files(folder: Path) -> dict[str, str]:
    """Relative path -> text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def installed(folder: Path, package: str, name: str) -> dict[str, str]:
    """Environment of a process in which the plugin in `folder` is installed."""
    info = folder / "src" / f"{package}-0.1.0.dist-info"
    info.mkdir()
    distribution = package.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[camkit]\n{name} = {package}.plugin\n")
    return {**os.environ, "PYTHONPATH": str((folder / "src").resolve())}


@pytest.mark.parametrize(
    "name", ["ridge-line", "ridge_line", "camkit-ridge-line", "camkit_ridge_line"]
)
def test_a_new_plugin_has_every_file_under_its_own_name(run, name) -> None:
    done = run("plugins", "new", name)
    assert done.code == 0
    found = files(Path("camkit-ridge-line"))
    assert set(found) == FILES
    for path, text in found.items():
        left = "" if path == "LICENSE" else text.lower() + path
        assert "example" not in left, path
        if path.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(found["pyproject.toml"])["project"]
    assert project["name"] == "camkit-ridge-line"
    assert project["entry-points"]["camkit"] == {"ridge_line": "camkit_ridge_line.plugin"}
    assert "class RidgeLine(MethodModel)" in found["src/camkit_ridge_line/method.py"]
    assert 'name="ridge_line"' in found["src/camkit_ridge_line/plugin.py"]
    assert "Apache License" in found["LICENSE"]
    assert [path.name for path in Path().iterdir()] == ["camkit-ridge-line"]


def test_it_prints_the_next_three_commands(run) -> None:
    done = run("plugins", "new", "ridge")
    assert done.out == ""
    assert [line.strip() for line in done.lines[-3:]] == [
        "cd camkit-ridge",
        "python -m pip install --editable . pytest",
        "camkit plugins check camkit-ridge",
    ]


def test_json_says_the_same(run) -> None:
    (record,) = run("plugins", "new", "ridge-line", "--json").records
    assert record["folder"] == record["distribution"] == "camkit-ridge-line"
    assert record["package"] == "camkit_ridge_line"
    assert set(record["files"]) == FILES
    assert record["next"][0] == "cd camkit-ridge-line"


@pytest.mark.skipif(os.name != "posix", reason="folders have no such modes elsewhere")
def test_the_folder_is_as_open_as_any_other(run) -> None:
    Path("other").mkdir()
    run("plugins", "new", "ridge")
    assert Path("camkit-ridge").stat().st_mode == Path("other").stat().st_mode


REFUSED = {
    "Ridge Cam": "lower-case letters and digits.*how about 'ridge-cam'",
    "RIDGE": "how about 'ridge'",
    "3d": "beginning with a letter",
    "ridge--line": "how about 'ridge-line'",
    "-": "cannot be a plugin's name",
    "../ridge": "how about 'ridge'",
    "ridge/line": "how about 'ridge-line'",
    "r" * 41: "at most 40",
    "camkit": "camkit- is put in front",
    "camkit-camkit-x": "camkit- is put in front",
    "test-cam": "pytest would take its class for a test",
    "gradcam": "taken: there is a method 'gradcam'",
    "grad-cam": "taken: there is a method 'grad_cam'",
    "gradcamplusplus": "taken: there is a method 'gradcamplusplus'",
    "camkit-layer-cam": "taken: there is a method 'layercam'",
    "margin": "taken: there is a target 'margin'",
    "tokens": "taken: there is a reshape 'tokens'",
    "render": "camkit-render is a package already",
    "methods-gradient": "camkit-methods-gradient is a package already",
    "core": "camkit-core is a package already",
    "example": "camkit-example is a package already",
    "gradient": "camkit-gradient is a package already",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_or_taken_name_is_refused(run, name) -> None:
    done = run("plugins", "new", "--", name)
    assert done.code == 2
    (line,) = done.lines
    assert line.startswith("error: ")
    assert re.search(REFUSED[name], line), line
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["gradcam", "margin"])
def test_a_name_of_ours_is_taken_also_where_its_package_is_missing(run, monkeypatch, name) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_ALLOW", "")
    assert run("plugins", "new", name).code == 2


def test_a_name_almost_like_another_is_pointed_out(run) -> None:
    done = run("plugins", "new", "layercams")
    assert done.code == 0
    assert "warning: 'layercam' exists and is spelled almost like 'layercams'" in done.err
    assert "warning" not in run("plugins", "new", "ridge").err


def test_an_existing_folder_is_left_alone(run) -> None:
    Path("camkit-ridge").mkdir()
    Path("camkit-ridge/mine.txt").write_text("mine")
    done = run("plugins", "new", "ridge")
    assert (done.code, len(done.lines)) == (2, 1)
    assert "camkit-ridge exists already" in done.err
    assert files(Path("camkit-ridge")) == {"mine.txt": "mine"}


def test_a_file_in_its_place_is_left_alone(run) -> None:
    Path("camkit-ridge").write_text("mine")
    assert run("plugins", "new", "ridge").code == 2
    assert Path("camkit-ridge").read_text() == "mine"


def test_what_cannot_be_finished_leaves_nothing(run, monkeypatch) -> None:
    from camkit.cli.plugins import template

    texts = {"a.txt": "a", "b.txt": 3}
    with pytest.raises(TypeError):
        template.write(texts, Path("camkit-ridge"))  # type: ignore[arg-type]
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_a_new_plugin_passes_its_own_tests_and_conforms(run) -> None:
    run("plugins", "new", "ridge-line")
    folder = Path("camkit-ridge-line")
    env = installed(folder, "camkit_ridge_line", "ridge_line")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(pytest_, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    check = [sys.executable, "-m", "camkit", "plugins", "check", "camkit-ridge-line", "--json"]
    done = subprocess.run(check, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds == ["plugin", "method", "target", "reshape"]
