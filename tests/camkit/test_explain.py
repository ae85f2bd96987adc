"""`camkit explain` and `camkit compare` from a photo to right pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

import camkit


def rows(folder: str = "camkit_out") -> list[dict]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def hot(overlay: str | Path) -> tuple[int, int, int, int]:
    """Bounding box of what is red: the photos of these tests are gray."""
    red, _, blue = camkit.open_photo(overlay).split()
    box = ImageChops.subtract(red, blue).point(lambda value: 255 * (value > 60)).getbbox()
    assert box is not None
    return box


LOOK = ("-l", "relu", "--colormap", "jet")


def test_the_overlay_is_hot_where_the_model_looks(run, net: str, photo: Path) -> None:
    done = run("explain", photo, "--model", net, "-t", "bright", *LOOK)
    assert done.code == 0
    (row,) = rows()
    overlay = Path("camkit_out", row["files"]["png"])
    assert camkit.open_photo(overlay).size == (90, 60)
    left, top, right, bottom = hot(overlay)
    assert abs(left - 50) <= 2
    assert abs(top - 10) <= 2
    assert abs(right - 60) <= 2
    assert abs(bottom - 20) <= 2


def test_the_overlay_lies_on_the_upright_photo(run, net: str, tmp_path: Path) -> None:
    stored = Image.new("RGB", (60, 90), (90, 90, 90))
    # Orientation 6: the stored picture is turned 90 degrees clockwise to stand upright, where
    # stored (x, y) becomes (89 - y, x): this box becomes columns 50 to 60, rows 10 to 20.
    stored.paste((255, 255, 255), (10, 30, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save("turned.png", exif=exif)
    assert run("explain", "turned.png", "--model", net, "-t", "bright", *LOOK).code == 0
    overlay = Path("camkit_out", rows()[0]["files"]["png"])
    left, top, right, bottom = hot(overlay)
    assert camkit.open_photo(overlay).size == (90, 60)
    assert (abs(left - 50) <= 2, abs(top - 10) <= 2) == (True, True)
    assert (abs(right - 60) <= 2, abs(bottom - 20) <= 2) == (True, True)


def test_rows_and_files_agree_with_the_library(run, net: str, photo: Path) -> None:
    from safetensors.torch import load_file

    assert run("explain", photo, "--model", net, "-t", "0", "-l", "relu").code == 0
    (row,) = rows()
    model = camkit.load_model(net)
    batch = model.preprocess(camkit.open_photo(photo))
    expected = camkit.explain(model, batch, "gradcam", target=0, layers="relu")
    assert row["score"] == pytest.approx(float(expected.score[0]), abs=1e-6)
    assert row["raw"]["relu"]["max"] == pytest.approx(float(expected.raw["relu"].max()), rel=1e-6)
    assert row["raw"]["relu"]["shape"] == [48, 48]
    probabilities = expected.output.softmax(1)[0].tolist()
    assert [p["class"] for p in row["predictions"]] == sorted(
        range(4), key=lambda c: -probabilities[c]
    )
    assert [p["probability"] for p in row["predictions"]] == pytest.approx(
        sorted(probabilities, reverse=True), abs=1e-6
    )
    maps = load_file(Path("camkit_out", row["files"]["safetensors"]))
    assert float((maps["maps"] - expected.maps).abs().max()) < 1e-6
    assert float(expected.maps.max()) == 1.0


def test_the_default_method_is_gradcam_and_the_default_target_the_prediction(
    run, net: str, photo: Path
) -> None:
    assert run("explain", photo, "--model", net).code == 0
    (row,) = rows()
    assert (row["method"], row["target"], row["class"]) == ("gradcam", "pred", 0)
    assert row["predictions"][0]["class"] == 0


def test_methods_and_targets_multiply(run, net: str, photo: Path) -> None:
    argv = [
        "-m",
        "gradcam,layercam",
        "-m",
        "gradcampp:variant=grad-cam",
        "-t",
        "top2",
        "-t",
        "dark",
    ]
    assert run("explain", photo, "--model", net, *argv).code == 0
    found = [(row["method"], row["target"], row["class"]) for row in rows()]
    ranks = [p["class"] for p in rows()[0]["predictions"][:2]]
    targets = [("top2 #1", ranks[0]), ("top2 #2", ranks[1]), ("dark", 1)]
    methods = ["gradcam", "layercam", "gradcampp:variant=grad-cam"]
    assert found == [(m, word, c) for word, c in targets for m in methods]
    pictures = [row["files"]["png"] for row in rows()]
    assert len(set(pictures)) == 9
    assert "overlays/photo__gradcampp-variant=grad-cam__dark.png" in pictures
    assert all(Path("camkit_out", picture).is_file() for picture in pictures)


def test_layers_take_negative_positions_and_are_averaged(run, net: str, photo: Path) -> None:
    assert run("explain", photo, "--model", net, "-l", "-2", "-l", "features").code == 0
    assert rows()[0]["layers"] == ["relu", "features"]


def test_every_format_is_written(run, net: str, photo: Path) -> None:
    import numpy as np

    argv = ["--format", "npz,json", "--format", ".PNG"]
    assert run("explain", photo, "--model", net, "-t", "bright", *argv).code == 0
    files = rows()[0]["files"]
    assert list(files) == ["png", "npz", "json"]
    name = "photo__gradcam__bright"
    assert files["npz"] == f"maps/{name}.npz"
    with np.load(Path("camkit_out", files["npz"])) as arrays:
        assert arrays["maps"].shape == (1, 48, 48)
        assert arrays["maps"].max() == 1
    assert json.loads(Path("camkit_out", files["json"]).read_text())["target"]["label"] == "bright"
    assert not Path("camkit_out/maps", f"{name}.safetensors").exists()


def test_run_json_tells_how_to_repeat_the_run(run, net: str, photo: Path) -> None:
    import hashlib

    argv = ["explain", str(photo), "--model", net, "-m", "gradcam", "--seed", "7", "-o", "out"]
    assert run(*argv).code == 0
    record = json.loads(Path("out/run.json").read_text())
    assert record["schema_version"] == 1
    assert record["command"] == ["camkit", *argv]
    assert record["seed"] == 7
    assert record["camkit"]["camkit-core"] == record["camkit"]["camkit"]
    assert record["libraries"]["torch"]
    assert record["model"]["spec"] == net
    assert re.fullmatch("[0-9a-f]{64}", record["model"]["sha256"])
    assert record["model"]["preprocess"]["crop"] == [48, 48]
    (method,) = record["methods"]
    assert (method["spec"], method["layers"]) == ("gradcam", rows("out")[0]["layers"])
    assert record["targets"] == ["pred"]
    (image,) = record["images"]
    assert image["sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    geometry = image["geometry"]
    assert geometry["source_size"] == [60, 90]
    assert geometry["scale"] == pytest.approx([1.25, 1.25])
    assert geometry["offset"] == pytest.approx([0, 15])
    assert record["started"] <= record["finished"]


def test_weights_have_a_fingerprint(run, net: str, photo: Path) -> None:
    prints = []
    for name in ("build", "nameless", "random"):
        run("explain", photo, "--model", f"net.py:{name}", "-o", name)
        prints.append(json.loads(Path(name, "run.json").read_text())["model"]["sha256"])
    assert prints[0] == prints[1] != prints[2]


def test_random_weights_follow_from_the_seed_and_are_named(run, net: str, photo: Path) -> None:
    def fingerprint(seed: int, out: str) -> str:
        done = run("explain", photo, "--model", "net.py:random", "--seed", seed, "-o", out)
        plain = "weights are random: the pictures show the mechanics, not knowledge"
        assert done.lines.count(f"warning: {plain}") == 1
        return json.loads(Path(out, "run.json").read_text())["model"]["sha256"]

    assert fingerprint(1, "a") == fingerprint(1, "b") != fingerprint(2, "c")


def test_trained_weights_are_not_called_random(run, net: str, photo: Path) -> None:
    assert "random" not in run("explain", photo, "--model", net).err


def test_json_lines_are_the_rows_and_the_run(run, net: str, photo: Path) -> None:
    Path("bad.png").write_text("no")
    done = run("explain", photo, "bad.png", "--model", net, "--json")
    assert done.code == 3
    assert [record["type"] for record in done.records] == ["failure", "result", "run"]
    assert done.records[1] == rows()[0]
    assert done.records[2] == json.loads(Path("camkit_out/run.json").read_text())
    assert done.records[0]["image"] == "bad.png"


def test_people_read_a_summary(run, net: str, photo: Path) -> None:
    done = run("explain", photo, "--model", net, "-m", "gradcam,layercam", "-l", "relu")
    assert done.out == ""
    lines = done.lines
    assert lines[0] == "photo.png"
    said = r"  the model says   bright \d+\.\d % · \w+ \d+\.\d % · \w+ \d+\.\d %"
    assert re.fullmatch(said, lines[1])
    assert lines[2:] == [
        "  explained        bright (pred) at relu by gradcam, layercam",
        "                   camkit_out/overlays/photo__gradcam__bright.png",
        "                   camkit_out/overlays/photo__layercam__bright.png",
        "1 photo explained; everything is in camkit_out",
    ]


def test_quiet_says_nothing(run, net: str, photo: Path) -> None:
    assert run("explain", photo, "--model", net, "-q").err == ""


def test_an_empty_map_says_why(run, net: str, photo: Path) -> None:
    done = run("explain", photo, "--model", net, "-t", "dark", "-l", "relu")
    assert done.code == 0
    (issue,) = rows()[0]["issues"]
    assert issue["code"] == "all_negative"
    (warning,) = [line for line in done.lines if line.startswith("warning")]
    assert "photo.png: gradcam of dark" in warning
    assert issue["message"] in warning
    assert "nothing is left to draw" in warning


def test_alpha_is_the_opacity_of_the_heat_map(run, net: str, photo: Path) -> None:
    for alpha in (0, 1):
        argv = ["--model", net, "-t", "bright", "-l", "relu", "--alpha", alpha, "-o", f"a{alpha}"]
        assert run("explain", photo, *argv).code == 0
    name = "overlays/photo__gradcam__bright.png"
    inside = (52, 12, 58, 18)
    photos = [camkit.open_photo(p).crop(inside) for p in (photo, f"a0/{name}", f"a1/{name}")]
    assert photos[0].tobytes() == photos[1].tobytes() != photos[2].tobytes()


def test_post_is_the_engines(run, net: str, photo: Path) -> None:
    assert run("explain", photo, "--model", net, "-t", "dark", "--post", "signed").code == 0
    assert rows()[0]["raw"]
    method = json.loads(Path("camkit_out/run.json").read_text())["methods"][0]
    assert not any("Relu" in step for step in method["post"])


@pytest.mark.parametrize("device", ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])])
def test_a_device_can_be_named(run, net: str, photo: Path, device: str) -> None:
    assert run("explain", photo, "--model", net, "--device", device).code == 0
    assert json.loads(Path("camkit_out/run.json").read_text())["device"] == device


@pytest.mark.slow
def test_a_real_photo_and_a_real_network(run) -> None:
    stripes = Image.effect_noise((320, 240), 90).convert("RGB")
    stripes.save("noise.png")
    done = run("explain", "noise.png", "--model", "torchvision:resnet18@none", "-t", "tabby")
    assert done.code == 0
    (row,) = rows()
    assert (row["class"], row["layers"], row["raw"]["layer4"]["shape"]) == (281, ["layer4"], [7, 7])
    assert len(row["predictions"]) == 5
    assert "the mechanics, not knowledge" in done.err
