"""Many photos: batches, progress, grids."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import camkit


def rows(folder: str = "camkit_out") -> list[dict]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def test_batches_give_the_same_as_single_photos(run, net: str, photos) -> None:
    paths = photos(5)
    for size in (1, 2, 8):
        argv = ["--model", net, "-t", "bright", "-l", "relu", "-o", f"out{size}"]
        assert run("explain", *paths, *argv, "--batch-size", size).code == 0
    first = rows("out1")
    for other in (rows("out2"), rows("out8")):
        assert [row["image"] for row in other] == [str(path) for path in paths]
        for row, same in zip(other, first, strict=True):
            assert row["files"] == same["files"]
            assert row["score"] == pytest.approx(same["score"], rel=1e-5)
    for row in first:
        pictures = [Path(f"out{size}", row["files"]["png"]) for size in (1, 2, 8)]
        assert len({camkit.open_photo(path).tobytes() for path in pictures}) == 1


def test_photos_of_different_input_shape_go_into_different_batches(
    run, net: str, photos, tmp_path: Path
) -> None:
    code = "import net\n\ndef build():\n    from camkit_tasks import ImagePreprocess\n"
    code += "    same = ImagePreprocess(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))\n"
    code += "    return {'model': net.Net(), 'preprocess': same, 'class_names': net.NAMES}\n"
    (tmp_path / "sizes.py").write_text(code)
    paths = photos(4, sizes=[(40, 30), (40, 30), (30, 40), (40, 30)])
    assert run("explain", *paths, "--model", "sizes.py:build", "-l", "relu").code == 0
    assert [row["raw"]["relu"]["shape"] for row in rows()] == [
        [30, 40],
        [30, 40],
        [40, 30],
        [30, 40],
    ]


def test_progress_goes_to_stderr(run, net: str, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    from camkit.run import progress

    monkeypatch.setattr(progress, "EVERY", 0.0)
    done = run("explain", *photos(3), "--model", net, "--batch-size", 1)
    line = r"\d+ % done, \d of 3 photos, [\d.e+-]+ photos/s, about \d+ s left"
    assert any(re.fullmatch(line, text) for text in done.lines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    bar = run("explain", *photos(3), "--model", net, "-o", "other").err
    assert "3/3" in bar
    assert re.search(r"\d/s", bar)
    assert "s left" not in bar


def test_compare_draws_one_grid_per_photo(run, net: str, photo: Path) -> None:
    argv = ["-m", "gradcam,layercam,eigencam", "-t", "bright", "-t", "dark"]
    done = run("compare", photo, photo, "--model", net, *argv, "--scale", "shared")
    assert done.code == 0
    grids = {row["files"]["png"] for row in rows()}
    assert grids == {"grids/photo__compare.png", "grids/photo-2__compare.png"}
    assert len(rows()) == 12
    assert not Path("camkit_out/overlays").exists()
    width, height = camkit.open_photo("camkit_out/grids/photo__compare.png").size
    assert width > 3 * 90
    assert height > 2 * 60
    assert "grids/photo__compare.png" in done.err


def test_compare_has_several_methods_by_default(run, net: str, photo: Path) -> None:
    assert run("compare", photo, "--model", net).code == 0
    assert [row["method"] for row in rows()] == [
        "gradcam",
        "gradcampp",
        "hirescam",
        "layercam",
        "eigencam",
    ]


def test_one_photo_counts_in_percent(run, net: str, photo: Path, monkeypatch) -> None:
    from camkit.run import progress

    monkeypatch.setattr(progress, "EVERY", 0.0)
    done = run("explain", photo, "--model", net, "-m", "gradcam,eigencam,layercam")
    assert any(re.fullmatch(r"\d+ % done, about \d+ s left", text) for text in done.lines)


@pytest.mark.parametrize("chunk", ["3", "1 MB"])
def test_the_size_of_a_chunk_changes_nothing(run, net: str, photo: Path, chunk: str) -> None:
    argv = ["explain", photo, "--model", net, "-m", "occlusion", "--format", "json"]
    assert run(*argv, "-o", "plain").code == 0
    assert run(*argv, "-o", "chunked", "--chunk", chunk).code == 0
    plain, chunked = (rows(out)[0]["raw"] for out in ("plain", "chunked"))
    assert chunked["input"]["max"] == pytest.approx(plain["input"]["max"], rel=1e-5)


def test_a_chunk_that_is_no_amount_is_refused(run, net: str, photo: Path) -> None:
    done = run("explain", photo, "--model", net, "--chunk", "many")
    assert done.code == 2
    assert "a number of copies such as 64, or an amount such as 512MB" in done.err


def test_what_fast_precision_found_about_itself_is_in_the_results(
    run, net: str, photo: Path
) -> None:
    done = run("explain", photo, "--model", net, "-m", "occlusion", "--precision", "fast")
    assert done.code == 0
    assert any("rank correlation" in note for note in rows()[0]["notes"])


def test_a_part_of_the_output_is_explained_by_its_number(run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body = nn.Conv2d(3, 4, 3, padding=1)\n"
        "        self.head = nn.Linear(4, 5)\n"
        "    def forward(self, x):\n"
        "        y = self.head(self.body(x).relu().mean((2, 3)))\n"
        "        return y[:, :2], y\n"
        "def build():\n"
        "    return Two()\n"
    )
    words = ["--model", f"{tmp_path}/two.py:build", "-t", "4", "-l", "body"]
    wrong = run("explain", photo, *words)
    assert wrong.code == 2
    done = run("explain", photo, *words, "--output", 1)
    assert done.code == 0
    assert rows()[0]["class"] == 4
    assert {said["class"] for said in rows()[0]["predictions"]} == set(range(5))
    missing = run("explain", photo, *words, "--output", 2, "-o", "other")
    assert missing.code == 2
    assert "no such part" in missing.err
    listed = run("layers", "--model", f"{tmp_path}/two.py:build", "--output", 1)
    assert listed.code == 0
    assert "* default: body" in listed.err
