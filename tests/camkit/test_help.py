"""What a newcomer types first: help and listings, without waiting for torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from camkit.cli import main
from camkit.cli.app import OWN

LIGHT = [
    [],
    ["--help"],
    ["--version"],
    ["explain", "--help"],
    ["compare", "--help"],
    ["layers", "--help"],
    ["demo", "--help"],
    ["methods"],
    ["methods", "--json"],
    ["targets"],
    ["plugins"],
    ["cite", "gradcam", "hirescam"],
    ["explian"],
    ["explain"],
]


@pytest.mark.parametrize("argv", LIGHT, ids=" ".join)
def test_no_torch_and_no_numpy(argv: list[str]) -> None:
    code = (
        "import sys; from camkit.cli import main; code = main(sys.argv[1:]); "
        "print([m for m in ('torch', 'numpy') if m in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
    )
    expected = 2 if argv in (["explian"], ["explain"]) else 0
    assert done.stderr.splitlines()[-1] == f"[] {expected}"


def test_help_lists_own_commands_and_those_of_plugins(run) -> None:
    done = run("--help")
    assert done.code == 0
    listed = re.findall(r"^│ (\w+) ", done.out, re.MULTILINE)
    assert listed[: len(OWN)] == list(OWN)
    assert "demo" in listed[len(OWN) :]
    assert done.err == ""


def test_version(run) -> None:
    from camkit import __version__

    assert run("--version").out.strip() == __version__


@pytest.mark.parametrize("name", OWN)
def test_every_command_explains_itself(run, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert f"Usage: camkit {name}" in done.out
    assert "--json" in done.out


def test_explain_help_has_every_option_and_an_example(run) -> None:
    text = run("explain", "--help").out
    options = """
        --model --method -m --target -t --layer -l --output --post --alpha --colormap
        --scale --device --batch-size --chunk --budget --precision --seed --out -o --format
        --overwrite --json --quiet -q --verbose -v
    """
    for option in options.split():
        assert re.search(rf"(?<![\w-]){option}\b", text), option
    assert "IMAGES..." in text
    assert "camkit explain cat.jpg --model torchvision:resnet50@weights.pth" in text


def test_methods_lists_every_method(run) -> None:
    from camkit import methods

    done = run("methods")
    assert done.code == 0
    assert done.out == ""
    first = [line.split()[0] for line in done.lines if not line.startswith(" ")]
    assert {entry.name for entry in methods()} <= set(first)


def test_methods_json_is_one_object_per_line_and_nothing_else(run) -> None:
    done = run("methods", "--json")
    assert done.err == ""
    gradcam = next(record for record in done.records if record["name"] == "gradcam")
    assert gradcam["class_discriminative"] is True
    assert gradcam["needs"] == ["activations", "gradients"]
    assert gradcam["distribution"] == "camkit-methods-gradient"


def test_card_reads_the_options_from_the_methods_own_model(run) -> None:
    done = run("methods", "gradcampp")
    assert done.code == 0
    assert done.out == ""
    card = " ".join(done.err.split())
    for word in ("variant", "paper | grad-cam | torchcam", "1F + 1B", "arxiv.org/abs/1710.11063"):
        assert word in card
    (record,) = run("methods", "gradcampp", "--json").records
    (option,) = record["options"]
    assert (option["name"], option["default"]) == ("variant", "paper")
    assert option["description"]


def test_card_of_an_alias_is_the_methods(run) -> None:
    (record,) = run("methods", "gradcamplusplus", "--json").records
    assert record["name"] == "gradcampp"


def test_cite_writes_bibtex_to_stdout(run) -> None:
    done = run("cite", "gradcam", "hirescam", "gradcam", "gradcampp:variant=paper")
    assert done.code == 0
    assert done.err == ""
    assert re.findall(r"^@inproceedings\{(\w+),$", done.out, re.MULTILINE) == [
        "selvaraju2017gradcam",
        "draelos2020hirescam",
        "chattopadhay2018gradcampp",
    ]
    assert done.out.count("{") == done.out.count("}")


def test_cite_says_when_there_is_no_paper(run) -> None:
    done = run("cite", "random")
    assert (done.code, done.out) == (0, "")
    assert done.lines == ["warning: method 'random' has no paper"]


def test_plugins_show_provenance(run) -> None:
    records = {record["distribution"]: record for record in run("plugins", "--json").records}
    tasks = records["camkit-tasks"]
    assert tasks["status"] == "ok"
    assert tasks["module"] == "camkit_tasks.plugin"
    assert tasks["import_ms"] >= 0
    assert {"kind": "model family", "name": "torchvision"} in tasks["entries"]
    table = run("plugins").err
    for column in ("distribution", "version", "status", "entry point", "offers", "ms"):
        assert column in table


def test_blocked_plugins_are_shown_as_blocked(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", "camkit_tasks")
    records = {record["distribution"]: record for record in run("plugins", "--json").records}
    assert records["camkit-tasks"]["status"] == "blocked"
    assert records["camkit-tasks"]["entries"] == []


def test_doctor_has_what_a_bug_report_needs(run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("CAMKIT_PLUGINS_BLOCK", "camkit-metrics")
    (facts,) = run("doctor", "--json").records
    assert facts["libraries"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["camkit"]["camkit-core"]
    assert "camkit-metrics" not in facts["camkit"]
    assert facts["devices"][0].startswith("cpu")
    assert len(facts["devices"]) == 1 + torch.cuda.device_count()
    assert facts["environment"]["CAMKIT_PLUGINS_BLOCK"] == "camkit-metrics"
    text = run("doctor").err
    assert "torch" in text
    assert "CAMKIT_PLUGINS_BLOCK" in text


def test_a_closed_pipe_ends_quietly() -> None:
    done = subprocess.run(
        f"{sys.executable} -m camkit methods --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["name"]
    assert done.stderr == ""


def test_color_goes_to_terminals_only_and_never_with_no_color() -> None:
    def error_line(**env: str) -> str:
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        done = subprocess.run(
            [sys.executable, "-m", "camkit", "methods", "gradcan"],
            env={**clean, "TERM": "xterm-256color", **env},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    red = re.compile(r"\x1b\[[\d;]*31m")
    assert "\x1b" not in error_line()
    assert red.search(error_line(FORCE_COLOR="1"))
    assert not red.search(error_line(FORCE_COLOR="1", NO_COLOR="1"))


def test_the_console_script_is_main() -> None:
    from importlib import metadata

    (script,) = metadata.entry_points(group="console_scripts", name="camkit")
    assert script.load() is main
