"""`camkit layers`: where a model can be explained."""

from __future__ import annotations

from pathlib import Path


def test_table_names_shapes_and_the_default(run, net: str) -> None:
    done = run("layers", "--model", net)
    assert done.code == 0
    assert done.out == ""
    header = ["layer", "type", "output", "picture", "read", "as", "calls", "note"]
    assert done.lines[0].split() == header
    default = next(line for line in done.lines if line.startswith("*"))
    assert default.split()[:3] == ["*", "features", "Conv2d"]
    assert " ".join(default.split()).endswith("48x48 [N, C, *S] 1")
    assert any(line.startswith("* default: features (") for line in done.lines)
    head = next(line for line in done.lines if line.split()[0] == "head")
    assert head.split()[1:5] == ["Linear", "[1,", "4]", "-"]


def test_json_lists_every_module(run, net: str) -> None:
    done = run("layers", "--model", net, "--json")
    assert done.err == ""
    assert [(row["name"], row["picture"], row["default"]) for row in done.records] == [
        ("features", [48, 48], True),
        ("relu", [48, 48], False),
        ("head", None, False),
    ]
    assert {row["calls"] for row in done.records} == {1}
    assert [row["reshape"] for row in done.records] == ["ChannelsFirst()"] * 2 + [None]
    assert "one vector per image" in done.records[2]["note"]


NOTES = """
import torch
from torch import nn


class Pair(nn.Module):
    def forward(self, x):
        return x, x + 1


class Maybe(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)[:, 1:], None


class Deep(nn.Module):
    def forward(self, x):
        return x[:, None, None]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pair, self.maybe, self.deep, self.relu = Pair(), Maybe(), Deep(), nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.relu(self.conv(x)))
        self.maybe(x), self.deep(x)
        return self.head(self.pair(x)[1].mean((2, 3)))


def build():
    return Net()
"""


def test_notes_are_short_in_the_table_and_whole_in_json(run, tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text(NOTES)
    lines = {line.split()[0]: line.rstrip() for line in run(*_NOTES).lines if line.strip()}
    expected = {
        "pair": "returns several tensors",
        "maybe": "tokens, grid unknown",
        "deep": "layout unknown",
        "relu": "name one call, #0 to #1",
        "head": "one vector per image",
    }
    for name, note in expected.items():
        assert lines[name].endswith(f"  {note}"), name
    whole = {record["name"]: record["note"] for record in run(*_NOTES, "--json").records}
    assert whole.keys() - {"conv"} == expected.keys()
    for name in expected.keys() - {"relu"}:
        assert len(whole[name]) > 2 * len(expected[name]), name
    assert "'relu#0'" in whole["relu"]
    assert whole["conv"] == ""


_NOTES = ("layers", "--model", "notes.py:build")


def test_the_default_is_what_explain_uses(run, net: str, photo: Path) -> None:
    default = next(row for row in run("layers", "--model", net, "--json").records if row["default"])
    result = run("explain", photo, "--model", net, "--json").records[0]
    assert result["layers"] == [default["name"]]


def test_a_photo_decides_the_shapes(run, net: str, photo: Path, tmp_path: Path) -> None:
    code = "import net\n\ndef build():\n    from camkit_tasks import ImagePreprocess\n"
    code += "    same = ImagePreprocess(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))\n"
    code += "    return {'model': net.Net(), 'preprocess': same}\n"
    (tmp_path / "sizes.py").write_text(code)
    records = run("layers", photo, "--model", "sizes.py:build", "--json").records
    assert records[0]["picture"] == [60, 90]


def test_no_name_is_cut(run, tmp_path: Path) -> None:
    code = """
        from torch import nn

        def build():
            model = nn.Conv2d(3, 4, 3)
            for depth in range(9):
                model = nn.Sequential()if depth < 0 else _wrap(model, depth)
            return nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

        def _wrap(model, depth):
            outer = nn.Sequential()
            outer.add_module(f"a_rather_long_name_{depth}", model)
            return outer
    """
    import textwrap

    (tmp_path / "deep.py").write_text(textwrap.dedent(code))
    done = run("layers", "--model", "deep.py:build")
    assert done.code == 0
    deepest = "0." + ".".join(f"a_rather_long_name_{depth}" for depth in reversed(range(9)))
    assert deepest in done.err


def test_a_missing_photo_is_exit_code_2(run, net: str, photo: Path) -> None:
    done = run("layers", "phot.png", "--model", net)
    assert done.code == 2
    assert "did you mean 'photo.png'" in done.err


FILM = """
import torch
from torch import nn
from camkit_tasks import ClipPreprocess, ImagePreprocess


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3, 4)))


def build():
    frame = ImagePreprocess(resize=None, crop=(12, 16))
    return Net(), ClipPreprocess(frame=frame, frames=5)
"""


def test_a_video_network_is_probed_with_a_clip_and_refuses_a_photo(
    run, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "film.py").write_text(FILM)
    records = run("layers", "--model", "film.py:build", "--json").records
    assert records[0]["output"] == "[1, 4, 5, 12, 16]"
    assert records[0]["picture"] == [5, 12, 16]
    for command in ("layers", "explain"):
        done = run(command, photo, "--model", "film.py:build")
        assert done.code in (1, 2)
        assert "video network: it explains clips" in done.err
        assert "from Python pass 5 frames" in done.err
