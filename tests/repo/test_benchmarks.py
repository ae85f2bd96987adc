"""The harness counts exactly, computes ratios right, and refuses to compare empty maps."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import camkit

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks import cli, guard, memory, timing
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.counting import counted
from benchmarks.measure import Settings, measure
from benchmarks.report import startup_line, table
from benchmarks.results import Entrant, Result, document, read, updated, verdict, write
from benchmarks.rows import CURVES, SEVEN, TABLE, Row, choose
from benchmarks.scenes import arrange, calibrate, pictures, reshape_of
from benchmarks.startup import startup
from benchmarks.timing import Pair, Ratio, Tick


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Nested(Toy):
    """Calls a submodule of its own class."""

    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return super().forward(x) if self.inner is None else self.inner(x)


ROW = Row(name="toy", title="toy", model="toy", layer="features", size=32, goal=1e6)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    model = Toy()
    calibrate(model, seed=0, size=32)
    return model.eval()


def scene_of(row, model):
    return arrange(row, model, pictures(row.batch, row.size, seed=3))


# -- counting ------------------------------------------------------------------------------------


def test_forwards_of_the_model_and_of_copies_are_counted(toy):
    x = torch.randn(3, 3, 32, 32)
    with counted(toy) as passes:
        toy(x)
        copy.copy(toy)(x=x[:2])
        nn.Sequential(toy)(x)
    assert (passes.forwards, passes.rows, passes.backwards) == (3, 8, 0)


def test_a_submodule_of_the_same_class_does_not_count_twice():
    model = Nested(Nested(Nested()))
    with counted(model) as passes:
        model(torch.randn(1, 3, 32, 32))
    assert passes.forwards == 1


def test_a_forward_that_fails_counts_and_the_next_counts_too(toy):
    with counted(toy) as passes:
        with pytest.raises(RuntimeError):
            toy(torch.randn(1, 5, 32, 32))
        toy(torch.randn(1, 3, 32, 32))
    assert passes.forwards == 2


def test_every_way_to_run_autograd_counts_once(toy):
    x = torch.randn(1, 3, 32, 32, requires_grad=True)
    with counted(toy) as passes:
        toy(x).sum().backward()
        torch.autograd.backward(toy(x).sum())
        torch.autograd.grad(toy(x).sum(), x)
        (first,) = torch.autograd.grad((toy(x) ** 2).sum(), x, create_graph=True)
        torch.autograd.grad(first.sum(), x)
    assert (passes.forwards, passes.backwards) == (4, 5)


def test_nothing_stays_patched(toy):
    inherits = type("Inherits", (Toy,), {})()
    before = Toy.forward, torch.autograd.grad, torch.autograd.backward
    with pytest.raises(ZeroDivisionError), counted(inherits):
        raise ZeroDivisionError
    assert (Toy.forward, torch.autograd.grad, torch.autograd.backward) == before
    assert "forward" not in vars(type(inherits))


def test_camkits_own_passes_are_seen_and_agree_with_the_provenance(toy):
    x = torch.randn(2, 3, 32, 32)
    with counted(toy) as passes:
        found = camkit.compare(toy, x, ["gradcam", "layercam"], [0, 1, 2], layers="features.0")
    provenance = next(iter(found.values())).provenance
    assert (passes.forwards, passes.rows) == (1, 2)
    # One batched pass, and the derivative of each of the three scores at the model's output.
    assert provenance.backwards == 1
    assert passes.backwards == provenance.backwards + 3


# -- ratios --------------------------------------------------------------------------------------


def pair(unit, case, cpu=1.0):
    return Pair(Tick(unit, 1.0), Tick(case, cpu))


def test_a_ratio_is_the_median_over_pairs_not_of_medians():
    pairs = [pair(1.0, 2.0), pair(10.0, 30.0), pair(2.0, 20.0), pair(4.0, 2.0), pair(5.0, 20.0)]
    found = timing.ratio(pairs)
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert found.best == 2.0
    assert found.rounds == 5


def test_a_sample_is_multiplied_and_the_processor_clock_can_be_asked():
    pairs = [pair(2.0, 4.0, cpu=0.25), pair(2.0, 8.0, cpu=0.25)]
    assert timing.ratio(pairs, factor=20).median == 60.0
    assert timing.ratio(pairs, "cpu").median == 0.25


def test_uncertainty_shrinks_with_the_root_of_the_rounds():
    few, many = Ratio(2.0, 1.8, 2.2, 1.7, 9), Ratio(2.0, 1.8, 2.2, 1.7, 36)
    assert few.uncertainty == pytest.approx(1.57 * 0.4 / 3 / 2)
    assert few.uncertainty == pytest.approx(2 * many.uncertainty)


def test_no_pairs_are_an_error():
    with pytest.raises(ValueError, match="nothing was measured"):
        timing.ratio([])


def test_rounds_are_interleaved_and_every_case_has_a_forward_beside_it():
    log = []
    cases = {name: lambda name=name: log.append(name) for name in "abc"}
    found = timing.interleave(
        lambda: log.append("unit"), cases, 8, seed=1, clean=lambda: log.append("|")
    )
    assert {name: len(pairs) for name, pairs in found.items()} == dict.fromkeys("abc", 8)
    couples = [log[start : start + 3] for start in range(0, len(log), 3)]
    assert all(couple[2] == "|" and couple.count("unit") == 1 for couple in couples)
    who = ["".join(couple).replace("unit", "").replace("|", "") for couple in couples]
    rounds = ["".join(who[start : start + 3]) for start in range(0, len(who), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1
    assert {couple[0] == "unit" for couple in couples} == {True, False}


def test_verdicts_know_goal_and_limit():
    assert verdict(1.03, 1.03, 1.05) == "met"
    assert verdict(1.04, 1.03, 1.05) == "within limit"
    assert verdict(1.06, 1.03, 1.05) == "missed"
    assert verdict(1.04, 1.03) == "missed"
    assert verdict(99.0, None) == ""


def test_a_noisy_median_decides_nothing():
    row = replace(ROW, goal=1.03, limit=1.05)
    for spread, said in ((0.01, "missed"), (0.5, "undecided")):
        cost = Ratio(1.2, 1.2 - spread, 1.2 + spread, 1.0, 9)
        result = Result(row, entrants={"camkit": Entrant(wall=cost)})
        result.judge("wall")
        assert result.verdict == said
        assert result.ok == (said == "undecided")


# -- the guard -----------------------------------------------------------------------------------


def test_empty_maps_are_refused():
    alive, empty = torch.rand(2, 8, 8), torch.zeros(2, 8, 8)
    alive[:, 0, 0] = 1.0
    guard.lively({("gradcam", 0): alive}, many=False)
    with pytest.raises(guard.GuardError, match=r"empty maps.*gradcam\[0\]"):
        guard.lively({("gradcam", 0): torch.stack([alive[0], empty[0]])}, many=False)
    with pytest.raises(guard.GuardError, match="no maps"):
        guard.lively({}, many=False)


def test_of_many_classes_half_may_be_empty():
    alive, empty = torch.ones(1, 8, 8), torch.zeros(1, 8, 8)
    guard.lively({("m", 0): alive, ("m", 1): empty}, many=True)
    with pytest.raises(guard.GuardError):
        guard.lively({("m", 0): alive, ("m", 1): empty, ("m", 2): empty}, many=True)


def test_a_row_with_empty_maps_has_an_error_and_no_figures(toy):
    with torch.no_grad():
        toy.features[1].bias.fill_(-1e3)
        toy.features[1].bias[0] = 1e-3
        toy.features[1].weight.zero_()
    result = measure(ROW, Settings(rounds=1, memory=False), builder=lambda *_: scene_of(ROW, toy))
    assert "empty maps would be compared" in result.error
    assert not result.ok
    assert result.entrants["camkit"].wall is None


def test_another_map_than_grad_cams_is_refused(toy):
    scene = scene_of(ROW, toy)
    right = guard.display(guard.reference(scene)["gradcam", 0], scene.size)
    assert guard.inspect(scene, {"grad-cam": {("gradcam", 0): right.numpy()}}) == {
        "grad-cam": {"gradcam": 0.0}
    }
    with pytest.raises(guard.GuardError, match="not grad-cam's"):
        guard.inspect(scene, {"grad-cam": {("gradcam", 0): right.flip(2)}})


def test_principal_components_agree_up_to_sign(toy):
    row = replace(ROW, methods=("eigencam",))
    scene = scene_of(row, toy)
    raw = guard.reference(scene)["eigencam", 0]
    flipped = {("eigencam", 0): guard.display(-raw, scene.size)}
    assert guard.differences({("eigencam", 0): raw}, flipped, scene) == {"eigencam": 0.0}
    wrong = guard.differences(
        {("gradcam", 0): raw}, {("gradcam", 0): flipped["eigencam", 0]}, scene
    )
    assert wrong["gradcam"] > 0.1


def test_a_display_map_is_rectified_and_fills_zero_to_one():
    raw = torch.tensor([[[-4.0, 1.0], [2.0, 3.0]], [[5.0, 5.0], [5.0, 5.0]]])
    same_size = guard.display(raw, (2, 2))
    assert torch.allclose(same_size[0], torch.tensor([[0.0, 1 / 3], [2 / 3, 1.0]]))
    assert not same_size[1].any()


# -- rows and scenes -----------------------------------------------------------------------------


def test_rows_have_unique_names_and_sensible_goals():
    rows = [*TABLE, *CURVES]
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.limit is None or row.limit >= row.goal for row in rows if row.goal)
    assert {name for row in rows for name in row.contenders} <= set(CONTENDERS)
    assert {row.curve[0] for row in CURVES} == {"batch", "size", "targets", "methods"}
    assert next(row for row in TABLE if row.name == "seven-resnet50").methods == SEVEN


def test_layers_of_all_rows_exist():
    models = pytest.importorskip("torchvision").models
    for row in TABLE:
        with torch.device("meta"):
            model = models.get_model(row.model, weights=None)
        assert model.get_submodule(row.layer)


def test_methods_of_all_rows_and_variants_exist():
    known = {entry.name for entry in camkit.methods()}
    assert known.issuperset(SEVEN)
    assert known.issuperset(guard.INCUMBENT)


def test_rows_are_chosen_by_name_and_prefix():
    assert [row.name for row in choose("gradcam-vit,gradcam-swin")] == [
        "gradcam-vit",
        "gradcam-swin",
    ]
    assert choose("curve-batch*,curve-batch-1") == [r for r in CURVES if r.curve[0] == "batch"]
    assert choose(None, quick=True) == list(TABLE)
    with pytest.raises(ValueError, match="no row is called 'gradcan'"):
        choose("gradcan")


def test_layouts_of_tokens_are_undone():
    maps = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    nhwc = reshape_of("nhwc", nn.Identity())
    assert torch.equal(nhwc(maps.permute(0, 2, 3, 1)), maps)
    tokens = torch.cat([torch.zeros(2, 1, 3), maps.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(reshape_of("cls", nn.Identity())(tokens), maps)
    with pytest.raises(ValueError, match="unknown layout 'rows'"):
        reshape_of("rows", nn.Identity())


def test_a_scene_is_the_same_for_the_same_seed_and_has_gradients_around_one(toy):
    assert torch.equal(pictures(2, 32, seed=5), pictures(2, 32, seed=5))
    assert not torch.equal(pictures(2, 32, seed=5), pictures(2, 32, seed=6))
    scene = scene_of(ROW, toy)
    kept = []
    handle = scene.layer.register_forward_hook(lambda module, args, output: kept.append(output))
    score = toy(scene.images).amax(1).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    assert float(gradient.abs().mean()) == pytest.approx(1.0, rel=1e-3)


# -- a whole row, and what is written ------------------------------------------------------------


@pytest.fixture
def result(toy):
    row = replace(ROW, methods=("gradcam", "layercam"), targets=3)
    settings = Settings(rounds=3, max_rounds=5, precision=1e-9, memory=False)
    alone = {name: Contender("no-such-thing", {"gradcam": "X"}, None) for name in row.contenders}
    rivals = alone | {"camkit": CONTENDERS["camkit"]}
    return measure(row, settings, builder=lambda *_: scene_of(row, toy), contenders=rivals)


def test_a_row_has_figures_and_says_who_was_not_there(result):
    assert result.error == ""
    ours = result.entrants["camkit"]
    assert (ours.forwards, ours.rows) == (1, 1)
    assert ours.wall.rounds == 5
    assert ours.wall.low <= ours.wall.median <= ours.wall.high
    assert {name: one.note for name, one in result.entrants.items() if name != "camkit"} == (
        dict.fromkeys(["grad-cam", "torchcam", "torchcam-shared", "captum"], "not installed")
    )
    assert result.verdict in ("met", "undecided")


def test_json_gives_back_what_was_measured(result, tmp_path):
    content = document([result], {"device": "cpu"}, {"rounds": 3}, None)
    write(tmp_path / "out" / "run.json", content)
    raw = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert set(raw) == {"schema", "unit", "settings", "environment", "rows", "startup"}
    assert set(raw["rows"][0]["entrants"]["camkit"]) == set(vars(Entrant()))
    (again,) = read(tmp_path / "out" / "run.json")
    assert again.row == result.row
    assert again.verdict == result.verdict
    median = result.entrants["camkit"].wall.median
    assert again.entrants["camkit"].wall.median == pytest.approx(median, rel=1e-3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json"]


def test_new_rows_replace_old_ones_of_the_same_name(result, tmp_path):
    path, other = tmp_path / "run.json", replace(result, row=replace(result.row, name="other"))
    write(path, document([result, other], {}, {"commands": ["a"]}, {"met": True}))
    newer = document([replace(result, error="newer")], {}, {"commands": ["b"]}, None)
    write(path, updated(path, newer))
    assert [(one.row.name, one.error) for one in read(path)] == [("toy", "newer"), ("other", "")]
    content = json.loads(path.read_text("utf-8"))
    assert content["settings"]["commands"] == ["a", "b"]
    assert content["startup"] == {"met": True}


def test_what_was_measured_can_be_shown_again(result, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(cli, "_draw", lambda results, path, clock: drawn.append(path.name))
    write(tmp_path / "run.json", document([result], {}, {}, None))
    assert cli.main(["--show", str(tmp_path / "run.json")]) == 0
    assert "| toy " in capsys.readouterr().out
    assert drawn == ["run.png"]


def test_json_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text('{"schema": 0, "rows": []}', "utf-8")
    with pytest.raises(ValueError, match="has schema 0, expected 1"):
        read(path)


def test_the_table_says_what_was_missed():
    cost = Ratio(1.133, 1.1, 1.2, 1.05, 36)
    row = replace(ROW, goal=1.03, limit=1.05, memory_goal=10.0)
    peer = Entrant(wall=Ratio(350.0, 1, 1, 1, 1), factor=20.0, methods=["gradcam"])
    result = Result(row, entrants={"camkit": Entrant(wall=cost, memory=11.0), "grad-cam": peer})
    result.judge("wall")
    assert (result.verdict, result.memory_verdict, result.ok) == ("missed", "missed", False)
    line = table([result], "wall").splitlines()[-1]
    for words in (
        "1.03x, must 1.05x, +10 MiB",
        "1.133x",
        "1.100-1.200",
        "missed by 10.0 %",
        "~350x",
    ):
        assert words in line


def test_the_command_lists_rows_and_refuses_unknown_ones(capsys):
    assert cli.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(row.name in listed for row in (*TABLE, *CURVES))
    with pytest.raises(SystemExit) as stop:
        cli.main(["--rows", "nonsense"])
    assert stop.value.code == 2
    assert "no row is called 'nonsense'" in capsys.readouterr().err


def test_the_whole_command_writes_what_it_printed(toy, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "choose", lambda *_args, **_words: [ROW])
    monkeypatch.setattr("benchmarks.measure.build", lambda *_: scene_of(ROW, toy))
    out = tmp_path / "run.json"
    assert (
        cli.main(
            ["--rows", "toy", "--rounds", "2", "--no-memory", "--device", "cpu", "--out", str(out)]
        )
        == 0
    )
    assert "| toy " in capsys.readouterr().out
    written = out.read_text("utf-8")
    assert str(tmp_path) not in written
    content = json.loads(written)
    assert content["settings"]["commands"][0].startswith("python -m benchmarks --rows toy")
    assert content["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert content["environment"]["device"] == "cpu"


# -- memory and start-up -------------------------------------------------------------------------


@pytest.mark.skipif(not memory.available("cpu"), reason="peaks are reset through Linux' /proc only")
def test_the_peak_is_that_of_live_memory():
    def call():
        torch.ones(96 * 2**18).sum()
        return torch.ones(32 * 2**18)

    assert memory.peak(call, lambda: None, "cpu") == pytest.approx(96, abs=6)


def test_startup_is_timed_and_loads_nothing_heavy():
    found = startup(1)
    assert found["loaded"] == "[]"
    assert found["rounds"] == 1
    assert found["bare"] > 0
    assert re.search(r"over a bare interpreter: -?\d+\.\d{3} s", startup_line(found))


def test_the_plot_holds_bars_and_curves(result, tmp_path):
    pytest.importorskip("matplotlib", reason="drawn in the environment of the benchmarks only")
    from benchmarks.plot import plot

    point = replace(result, row=replace(result.row, name="c", curve=("batch", 2)))
    plot([result, point], tmp_path / "a" / "run.png", "wall")
    assert (tmp_path / "a" / "run.png").read_bytes().startswith(b"\x89PNG")
