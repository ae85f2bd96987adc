"""`camkit demo` with stand-ins for the packages it asks the registry for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.table import Table

from camkit_core import (
    Explanation,
    InputError,
    ModelError,
    OptionError,
    Registry,
    UnknownNameError,
)
from camkit_playground import demonstration
from camkit_playground.demonstration import METHODS, PAIR, SCENES, TWINS, Options, demonstrate
from camkit_playground.duo import CLASS_NAMES, class_index, scene
from camkit_playground.leaderboard.hans import OBJECT

sys.path.insert(0, str(Path(__file__).parent))
import playground_proof
from playground_proof import Png, registry_of, stand_ins

SMALL = Options(scenes=2)
INSTALLED = [name for name in METHODS if name in ("gradcam", "eigencam")]


@pytest.fixture
def registry() -> Iterator[Registry]:
    """The playground's own networks; stand-ins for all else."""
    playground_proof.seen.clear()
    yield registry_of()
    playground_proof.seen.clear()


def run(registry: Registry, out: Path, options: Options = SMALL) -> list[Any]:
    said: list[Any] = []
    demonstrate(registry, out, said.append, options=options)
    return said


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def objects(seed: int) -> list[str]:
    return [CLASS_NAMES[index] for index, *_ in scene(seed).boxes]


def answers(explanations: list[Explanation]) -> list[str]:
    """What the labels say that the network sees; all of it is there, and it is sure."""
    found = []
    for one in explanations:
        (label,) = one.target.labels
        name, share = label.split(": ")
        assert 90 <= int(share.removesuffix(" %")) <= 100
        found.append(name)
    return found


# -- what is written -----------------------------------------------------------------------------


def test_it_writes_pictures_with_stable_names(registry: Registry, tmp_path: Path) -> None:
    written = demonstrate(registry, tmp_path / "out", lambda _: None, options=SMALL)
    overlays = {
        f"overlays/duo{seed}__{name.replace(' ', '_')}__{method}.png"
        for seed in SCENES
        for name in objects(seed)
        for method in INSTALLED
    }
    sheets = {"grid.png", "leaderboard.json", "leaderboard.md", "reasons.png"}
    assert set(files(tmp_path / "out")) == overlays | sheets
    assert set(written.values()) == {tmp_path / "out" / name for name in overlays | sheets}
    assert len(overlays) == 8


def test_every_picture_says_what_it_shows(registry: Registry, tmp_path: Path) -> None:
    run(registry, tmp_path)
    calls = playground_proof.seen
    titles = [options["title"] for _, options in calls]
    expected = [
        f"{method}: where is the {name}?"
        for seed in SCENES
        for name in objects(seed)
        for method in INSTALLED
    ]
    assert titles[:-2] == expected
    assert "asks demo:cnn for one object" in titles[-2]
    assert titles[-1].startswith("Same picture, same answer, different reason")
    assert answers(calls[-2][0]) == [
        name for seed in SCENES for name in objects(seed) for _ in INSTALLED
    ]
    assert answers(calls[-1][0]) == [f"{s} says {OBJECT}" for s in TWINS for _ in INSTALLED]


def test_maps_belong_to_their_words(registry: Registry, tmp_path: Path) -> None:
    run(registry, tmp_path)
    for explanations, options in playground_proof.seen[:-2]:
        (one,) = explanations
        assert options["title"].endswith(f"{one.target.label}?")
        assert one.target.label == CLASS_NAMES[int(one.target.classes[0])]
        assert options["title"].startswith(one.provenance.method)
        assert float(one.score[0]) > 0  # the network agrees that it is there
        assert one.pictures[0].photo.size == (256, 256)


def test_the_pair_is_one_picture_with_heart_and_tag(registry: Registry, tmp_path: Path) -> None:
    run(registry, tmp_path)
    shown, _ = playground_proof.seen[-1]
    assert all(torch.equal(one.inputs, shown[0].inputs) for one in shown)
    assert [int(one.target.classes[0]) for one in shown] == [class_index(OBJECT)] * len(shown)
    pair = scene(PAIR, size=256, tag=True)
    assert pair.tag.any()
    assert pair.labels[class_index(OBJECT)]
    assert shown[0].pictures[0].photo.tobytes() == pair.image.tobytes()
    clean, twin = (one for one in shown if one.provenance.method == "gradcam")
    assert not torch.allclose(clean.maps, twin.maps, atol=0.1)


def test_the_leaderboard_is_written_as_json_and_markdown(
    registry: Registry, tmp_path: Path
) -> None:
    run(registry, tmp_path)
    found = json.loads((tmp_path / "leaderboard.json").read_text("utf-8"))
    assert [row["name"] for row in found["rows"]] == [*INSTALLED, "random", "center", "oracle"]
    assert (found["model"], found["scenes"], found["seed"]) == ("demo:cnn", 2, 0)
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    mean = found["rows"][0]["values"]["energy"]["mean"]
    assert f"{mean:.3f}" in next(line for line in text.splitlines() if "gradcam" in line)


# -- the same again ------------------------------------------------------------------------------


def test_every_demonstration_is_the_same_to_the_last_byte(
    registry: Registry, tmp_path: Path
) -> None:
    run(registry, tmp_path / "a")
    torch.rand(3)
    state = torch.random.get_rng_state()
    run(registry, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert bool((torch.random.get_rng_state() == state).all())


def test_another_seed_changes_the_leaderboard_only(registry: Registry, tmp_path: Path) -> None:
    run(registry, tmp_path / "a")
    run(registry, tmp_path / "b", Options(scenes=2, seed=1))
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {name for name in a if a[name] != b[name]} == {"leaderboard.json", "leaderboard.md"}


def test_it_may_be_repeated_in_the_same_folder(registry: Registry, tmp_path: Path) -> None:
    run(registry, tmp_path)
    once = files(tmp_path)
    run(registry, tmp_path)
    assert files(tmp_path) == once


def test_nothing_touches_the_network(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the demonstration opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    run(registry, tmp_path)


# -- what is said --------------------------------------------------------------------------------


def test_it_says_what_it_does_and_where_it_is(registry: Registry, tmp_path: Path) -> None:
    said = run(registry, tmp_path)
    board, _ = (part for part in said if isinstance(part, Table))
    lines = [line for part in said if isinstance(part, str) for line in part.split("\n")]
    steps = [line for line in lines if line.startswith("[")]
    assert [step[:5] for step in steps] == ["[1/3]", "[2/3]", "[3/3]"]
    text = "\n".join(lines)
    for name in ("grid.png", "overlays", "leaderboard.md", "leaderboard.json", "reasons.png"):
        assert str(tmp_path / name) in text
    assert list(board.columns[0].cells)[:2] == INSTALLED
    assert lines[-1].startswith(f"Next: camkit explain duo:{SCENES[0]}@256 --model demo:cnn")
    assert f'-t "{objects(SCENES[0])[0]}"' in lines[-1]


def test_it_says_what_the_twins_looked_at(registry: Registry, tmp_path: Path) -> None:
    _, twins = (part for part in run(registry, tmp_path) if isinstance(part, Table))
    rows = list(zip(*(column.cells for column in twins.columns), strict=True))
    assert [row[0] for row in rows] == list(TWINS)
    answers = [[int(row[k].split()[0]) for k in (1, 4, 5)] for row in rows]
    (clean, without_tag, without_heart), twin = answers
    assert min(clean, without_tag, twin[0], twin[2]) > 90
    assert max(without_heart, twin[1]) < 50  # the clean one misses the heart, the twin the tag


def test_progress_ends_with_everything_done(registry: Registry, tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}

    def tell(what: str, done: int, total: int) -> None:
        assert told.get(what, (0, total)) < (done, total)
        told[what] = (done, total)

    demonstrate(registry, tmp_path, lambda _: None, tell, SMALL)
    assert told == {"drawing": (8, 8), "judging": (4, 4), "asking the twins": (2, 2)}


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("method", r"camkit\[gradient\]"),
        ("renderer", r"camkit\[render\]"),
        ("writer", r"camkit\[render\]"),
        ("metric", "no metric is called 'energy'"),
    ],
)
def test_missing_packages_are_named_before_anything_is_written(
    tmp_path: Path, missing: str, message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        run(registry_of(without=(missing,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_model_family_is_named(tmp_path: Path) -> None:
    bare = Registry(plugins=[("stand-ins", stand_ins())], discover=False)
    with pytest.raises(ModelError, match="no plugin understands the model 'demo:cnn'"):
        run(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_network_and_a_wrong_count_are_refused(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="demo network 'rnn'"):
        run(registry, tmp_path / "out", Options(model="demo:rnn"))
    with pytest.raises(InputError, match="a leaderboard of 0 scenes"):
        run(registry, tmp_path / "out", Options(scenes=0))
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_told(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OptionError, match=r"cannot make the folder .*out'"):
        run(registry, tmp_path / "out")


def test_a_failure_leaves_no_half_picture(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Png, explanation: Explanation, path: Path, /, **options: Any) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    monkeypatch.setattr(Png, "__call__", fail)
    with pytest.raises(ZeroDivisionError):
        run(registry, tmp_path)
    assert files(tmp_path) == {}


# -- the command ---------------------------------------------------------------------------------


def test_the_command_talks_on_stderr(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import camkit_core
    from camkit_playground.command import demo

    monkeypatch.setattr(camkit_core, "default_registry", lambda: registry)
    assert demo(out=tmp_path / "here", scenes=2) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gradcam" in captured.err
    assert "[3/3]" in captured.err
    with Image.open(tmp_path / "here" / "grid.png") as grid:
        assert grid.size == (8 * 64, 64)


def test_the_entry_is_found_without_torch() -> None:
    code = (
        "import sys; from camkit_core import Registry; "
        "found = Registry(allow=['camkit-playground']).find('command', 'demo'); "
        "print(found.ref, [m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "camkit_playground.command:demo []"


def test_the_pictures_that_are_drawn_can_be_asked_for_on_the_command_line() -> None:
    from camkit_playground.duo.spec import open_spec

    photo = open_spec(f"duo:{SCENES[0]}@256")
    assert photo is not None
    assert photo.tobytes() == scene(SCENES[0], size=256).image.tobytes()
    assert len(set(demonstration.METHODS)) == len(demonstration.METHODS)
    assert set(demonstration.DRAWN) <= set(demonstration.METHODS)
