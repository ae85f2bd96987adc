"""Every mistake gets one clear line, the right exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from camkit_core import Entry, Registry, hookimpl


def parsed(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


IMAGE = "photo.png"

USAGE = {
    "no image": ([], r"IMAGES\.\.\. requires an argument.*camkit explain --help"),
    "typo in an option": ([IMAGE, "--modell", "x"], r"Unknown option: --modell.*--model\?"),
    "typo in an image": (["phto.png"], r"no image 'phto\.png'; did you mean 'photo\.png'"),
    "not an image": (["net.py"], r"'net\.py' is not an image"),
    "a folder": (["folder"], r"'folder' is a folder; name the photos"),
    "a truncated image": (["cut.png"], r"'cut\.png' cannot be decoded"),
    "an image of NaN": (["black.png"], "NaN"),
    "typo in a layer": ([IMAGE, "-l", "feature"], r"no layer 'feature'; did you mean 'features'"),
    "a layer without children": ([IMAGE, "-l", "features.3"], r"no layer 'features\.3'"),
    "position out of range": ([IMAGE, "-l", "-9"], r"no layer '-9'"),
    "a layer without a picture": ([IMAGE, "-l", "head"], r"'head' returns \[1, 4\].*earlier layer"),
    "the same layer twice": ([IMAGE, "-l", "relu", "-l", "-2"], r"'relu' is given 2 times"),
    "class out of range": ([IMAGE, "-t", "4"], r"class 4 is out of range.*0\.\.3"),
    "negative class": ([IMAGE, "-t", "-1"], r"class -1 is out of range.*0\.\.3"),
    "typo in a class": (
        [IMAGE, "-t", "brigt"],
        r"no class is called 'brigt'.*'bright'",
    ),
    "ambiguous class": ([IMAGE, "-t", "CRANE"], r"several classes are called 'CRANE'.*\[2, 3\]"),
    "too many classes": ([IMAGE, "-t", "top5"], r"rank 5 was asked for.*4 classes"),
    "no class": ([IMAGE, "-t", "top0"], r"'top0': give pred, top3"),
    "empty target": ([IMAGE, "-t", ""], r"--target '': give pred"),
    "typo in a method": ([IMAGE, "-m", "gradcan"], r"'gradcan'; did you mean 'gradcam'"),
    "typo in the second method": ([IMAGE, "-m", "gradcam,layercan"], r"mean 'layercam'"),
    "unknown method option": (
        [IMAGE, "-m", "gradcampp:varant=paper"],
        r"no option 'varant'; did you mean 'variant'",
    ),
    "wrong method option": (
        [IMAGE, "-m", "gradcampp:variant=papr"],
        r"variant='papr'.*'paper', 'grad-cam' or 'torchcam'",
    ),
    "method option without value": ([IMAGE, "-m", "gradcampp:paper"], r"must read name=value"),
    "typo in post": ([IMAGE, "--post", "defalt"], r"post='defalt'.*did you mean 'default'"),
    "alpha too large": ([IMAGE, "--alpha", "2"], r'"2\.0" for --alpha\. Must be <= 1'),
    "alpha not a number": ([IMAGE, "--alpha", "much"], r"--alpha"),
    "typo in the color map": ([IMAGE, "--colormap", "jett"], r"'jett'; did you mean 'jet'"),
    "typo in the format": ([IMAGE, "--format", "png,npy"], r"'npy' is not written.*'npz'"),
    "unknown scale": ([IMAGE, "--scale", "log"], r'"log" for --scale\. Choose from: "own"'),
    "shared scale of one map": ([IMAGE, "--scale", "shared"], r"use camkit compare"),
    "unknown device": ([IMAGE, "--device", "gpu"], r"'gpu' is not one of auto, cpu, cuda"),
    "absent device": ([IMAGE, "--device", "cuda:77"], r"'cuda:77': this machine has \d CUDA"),
    "no photos per call": ([IMAGE, "--batch-size", "0"], r"--batch-size\. Must be >= 1"),
    "negative seed": ([IMAGE, "--seed", "-1"], r"--seed\. Must be >= 0"),
    "output is a file": ([IMAGE, "-o", "photo.png"], r"'photo\.png' is a file; name a folder"),
    "output below a file": ([IMAGE, "-o", "photo.png/x"], r"cannot write to 'photo\.png/x'"),
}


@pytest.fixture
def mistakes(net: str, photo: Path) -> str:
    """Everything the table needs."""
    Path("folder").mkdir()
    Path("cut.png").write_bytes(photo.read_bytes()[:60])
    Image.new("RGB", (90, 60)).save("black.png")
    return net


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(run, mistakes: str, name: str) -> None:
    argv, pattern = USAGE[name]
    before = sorted(Path().rglob("*"))
    done = run("explain", *argv, "--model", mistakes)
    assert done.code == 2
    assert done.out == ""
    (line,) = done.lines
    assert line.startswith("error: ")
    assert re.search(pattern, line)
    left = [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
    assert left == [path for path in before if "__pycache__" not in path.parts]


MODELS = {
    "typo in the function": ("net.py:bild", r"no 'bild'; did you mean 'build'"),
    "typo in the file": ("nett.py:build", r"no file .*nett\.py; did you mean 'net\.py'"),
    "no function": ("net.py", r"after the file comes the name of a function"),
    "bug in the factory": ("net.py:broken", r"net\.py:\d+: ValueError: the factory has a bug"),
    "typo in the network": ("torchvision:resnet5@none", r"'resnet5'; did you mean 'resnet50'"),
    "unknown family": ("resnet50", r"expected .*`file\.py:factory.* or `torchvision:NAME"),
    "missing weights": ("torchvision:resnet18@none.pth", r"none\.pth"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("command", ["explain", "compare", "layers"])
def test_models_that_do_not_load_are_exit_code_4(
    run, net: str, photo: Path, name: str, command: str
) -> None:
    spec, pattern = MODELS[name]
    done = run(command, photo, "--model", spec)
    assert done.code == 4
    (line,) = done.lines
    assert re.search(pattern, line)
    assert not Path("camkit_out").exists()


def test_a_missing_model_is_asked_for(run, photo: Path) -> None:
    done = run("explain", photo)
    assert done.code == 2
    (line,) = done.lines
    assert "--model requires an argument" in line


def test_typo_in_a_command(run) -> None:
    done = run("explian", "photo.png")
    assert (done.code, done.lines) == (
        2,
        ["error: no command is called 'explian'; did you mean 'explain'?"],
    )
    assert run("--modell").code == 2
    assert run("cite", "gradcan").code == 2
    assert run("methods", "gradcan").code == 2


def test_errors_come_before_the_model_is_loaded(run, photo: Path) -> None:
    for argv in (["nope.png"], [photo, "-m", "gradcan"], [photo, "--format", "npy"]):
        assert run("explain", *argv, "--model", "missing.py:build").code == 2


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("gradcan", "did you mean 'gradcam'"),
        ("gradcampp:varant=paper", "no option 'varant'"),
        ("gradcampp:variant=papr", "variant='papr'"),
    ],
)
def test_methods_are_checked_before_photos_and_model(
    run, command: str, method: str, message: str
) -> None:
    argv = ["nope.png", "-m", f"layercam,{method}", "--model", "missing.py:build"]
    done = run(command, *argv)
    assert done.code == 2
    (line,) = done.lines
    assert message in line


def test_a_method_that_cannot_be_imported_is_exit_code_4_before_anything_is_read(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = ModuleType("a_plugin")
    entry = Entry(kind="method", name="sick", ref="no_such_module:Sick", needs=())
    plugin.camkit_entries = hookimpl(lambda: [entry])  # type: ignore[attr-defined]
    registry = Registry(plugins=[("sick-plugin", plugin)])
    monkeypatch.setattr("camkit.run.plan.default_registry", lambda: registry)
    done = run("explain", "nope.png", "-m", "sick", "--model", "missing.py:build")
    assert done.code == 4
    (line,) = done.lines
    assert "'sick' of sick-plugin could not be imported from no_such_module:Sick" in line


def test_some_bad_photos_do_not_stop_the_others(run, net: str, photo: Path) -> None:
    Image.new("RGB", (90, 60), "white").save("white.png")
    Image.new("RGB", (90, 60)).save("black.png")
    Path("text.png").write_text("no")
    bad = ["missing.png", "white.png", "text.png", "black.png"]
    done = run("explain", *bad[:2], photo, *bad[2:], photo, "--model", net)
    assert done.code == 3
    failures = parsed("camkit_out/failures.jsonl")
    assert {failure["image"] for failure in failures} == set(bad)
    errors = {failure["image"]: failure["error"] for failure in failures}
    assert errors["white.png"] == "RuntimeError"
    assert errors["black.png"] == "NonFiniteError"
    assert errors["text.png"] == errors["missing.png"] == "InputError"
    rows = parsed("camkit_out/results.jsonl")
    assert [row["name"] for row in rows] == ["photo", "photo-2"]
    record = json.loads(Path("camkit_out/run.json").read_text())
    assert (record["explained"], record["failed"]) == (2, 4)
    assert done.lines[-1] == (
        "2 photos explained, 4 failed (see failures.jsonl); everything is in camkit_out"
    )
    assert sum(line.startswith("warning: failed") for line in done.lines) == 4


def test_many_photos_of_which_all_are_bad_are_exit_code_3(run, net: str) -> None:
    Path("text.png").write_text("no")
    assert run("explain", "text.png", "missing.png", "--model", net).code == 3
    assert json.loads(Path("camkit_out/run.json").read_text())["explained"] == 0


def test_a_wrong_layer_is_not_the_photos_fault(run, net: str, photo: Path) -> None:
    done = run("explain", photo, photo, "--model", net, "-t", "9")
    assert done.code == 2
    assert len(done.lines) == 1
    assert not Path("camkit_out").exists()


def test_a_bug_is_exit_code_1_and_says_how_to_see_more(
    run, net: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from camkit.run import draw

    def bug(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(draw.Artist, "draw", bug)
    done = run("explain", photo, "--model", net)
    assert done.code == 1
    assert done.lines == ["error: unexpected ZeroDivisionError: oh; CAMKIT_DEBUG=1 shows where"]


def test_tracebacks_only_on_request(run, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ("explain", "nope.png", "--model", net)
    assert "Traceback" not in run(*argv, "-v").err
    assert "Traceback" in run(*argv, "-v", "-v").err
    assert "Traceback" in run(*argv, "-vv").err
    monkeypatch.setenv("CAMKIT_DEBUG", "1")
    done = run(*argv)
    assert "Traceback" in done.err
    assert done.lines[-1].startswith("error: there is no image")
    assert done.code == 2


def test_control_characters_never_reach_the_terminal(run, net: str, photo: Path) -> None:
    hostile = "red \x1b[31m\r\u202e\n[bold]x.png"
    Path(hostile).write_bytes(photo.read_bytes())
    Path("worse\x1b[2J.png").write_text("no image")
    done = run("explain", hostile, "worse\x1b[2J.png", "--model", net, "--json")
    assert done.code == 3
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err
    assert done.out.isascii()
    assert "\x1b" not in done.out
    assert done.records[1]["image"] == hostile
    written = [path.name for path in Path("camkit_out").rglob("*.png")]
    assert written == ["red-31m-bold-x__gradcam__bright.png"]
    single = run("explain", "worse\x1b[2J.png", "--model", net, "-o", "other")
    assert "\x1b" not in single.err
    assert len(single.lines) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals work differently there")
def test_an_interruption_is_exit_code_130_and_keeps_what_was_finished(net: str, photos) -> None:
    paths = [str(path) for path in photos(3)] * 400
    process = subprocess.Popen(
        [sys.executable, "-m", "camkit", "explain", *paths, "--model", net, "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A job in the background of a script inherits that interruptions are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    partial = Path("camkit_out/results.jsonl.part")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if "photos/s" not in line]
    assert re.fullmatch(r"warning: \d+ of 1200 photos were explained .*", lines[-2])
    assert lines[-1] == "error: interrupted"
    rows = parsed("camkit_out/results.jsonl")
    assert 0 < len(rows) < 1200
    assert not Path("camkit_out/run.json").exists()
    assert not list(Path("camkit_out").rglob(".draft*"))
