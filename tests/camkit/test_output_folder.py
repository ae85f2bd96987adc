"""The output folder: complete or unmarked, never mixed, never outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camkit.cli.errors import Usage
from camkit.run.folder import OutputFolder
from camkit.run.names import Names, slug
from camkit_core import UnsafeFileError


def parsed(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def listing(folder: str = "out") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def write(folder: OutputFolder, name: str, text: str) -> None:
    with folder.writing(name) as draft:
        draft.write_text(text)


def break_off(folder: OutputFolder, name: str) -> None:
    with folder.writing(name) as draft:
        draft.write_text("half")
        raise ZeroDivisionError


def test_nothing_is_created_before_something_is_written() -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    folder.log("failures.jsonl", {"image": "a"})
    folder.close()
    assert not Path("out").exists()


def test_a_failed_write_leaves_nothing() -> None:
    folder = OutputFolder(Path("out/deep"), overwrite=False)
    with pytest.raises(ZeroDivisionError):
        break_off(folder, "overlays/a.png")
    folder.close()
    assert not Path("out").exists()


def test_a_failed_write_keeps_the_old_file() -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    write(folder, "maps/a.json", "old")
    with pytest.raises(ZeroDivisionError):
        break_off(folder, "maps/a.json")
    assert Path("out/maps/a.json").read_text() == "old"
    assert listing() == ["maps/a.json"]


def test_the_draft_keeps_the_suffix_and_is_hidden() -> None:
    with OutputFolder(Path("out"), overwrite=False).writing("maps/a.npz") as draft:
        assert draft.suffix == ".npz"
        assert draft.name.startswith(".")
        assert draft.parent == Path("out/maps")
        draft.touch()


def test_logs_get_their_names_when_they_are_closed() -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    write(folder, "maps/a.json", "{}")
    folder.log("results.jsonl", {"n": 1})
    folder.log("results.jsonl", {"n": float("nan")})
    assert listing() == ["maps/a.json", "results.jsonl.part"]
    folder.close()
    assert listing() == ["maps/a.json", "results.jsonl"]
    lines = Path("out/results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": 1}, {"n": None}]


def test_run_json_comes_last() -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    folder.log("failures.jsonl", {"image": "a"})
    folder.finish({"ok": True})
    assert listing() == ["failures.jsonl", "run.json"]
    newest = max(Path("out").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "run.json"


def test_a_finished_run_is_not_mixed_with_another() -> None:
    OutputFolder(Path("out"), overwrite=False).finish({})
    with pytest.raises(Usage, match=r"'out' holds a finished run; pass --overwrite"):
        OutputFolder(Path("out"), overwrite=False)


def test_overwriting_removes_what_the_old_run_wrote_and_nothing_else() -> None:
    old = OutputFolder(Path("out"), overwrite=False)
    write(old, "overlays/old.png", "old")
    Path("out/overlays/mine.png").write_text("the user's own")
    Path("secret.txt").write_text("outside")
    old.log("results.jsonl", {"files": {"png": "overlays/old.png", "x": "../secret.txt"}})
    old.log("failures.jsonl", {"image": "b"})
    old.finish({})
    new = OutputFolder(Path("out"), overwrite=True)
    with new.writing("overlays/new.png") as draft:
        draft.write_text("new")
        assert "overlays/old.png" in listing(), "nothing is removed before the first file is whole"
        assert "run.json" in listing()
    new.close()
    assert listing() == ["overlays/mine.png", "overlays/new.png"]
    assert Path("secret.txt").read_text() == "outside"


def test_an_unfinished_run_is_replaced_without_asking() -> None:
    Path("out/overlays").mkdir(parents=True)
    Path("out/overlays/old.png").touch()
    row = json.dumps({"files": {"png": "overlays/old.png"}})
    Path("out/results.jsonl.part").write_text(f'{row}\n{{"files": {{"png": "overl')
    new = OutputFolder(Path("out"), overwrite=False)
    write(new, "overlays/new.png", "new")
    new.finish({})
    assert listing() == ["overlays/new.png", "run.json"]


@pytest.mark.parametrize("name", ["../a.png", "overlays/../../a.png", "/tmp/a.png"])
def test_files_stay_inside(name: str) -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    with pytest.raises(UnsafeFileError, match="leads out of 'out'"), folder.writing(name):
        pytest.fail("must not get here")


def test_links_out_of_the_folder_are_refused() -> None:
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/overlays").symlink_to("../elsewhere")
    folder = OutputFolder(Path("out"), overwrite=False)
    with pytest.raises(UnsafeFileError), folder.writing("overlays/a.png"):
        pytest.fail("must not get here")
    assert not list(Path("elsewhere").iterdir())


def test_a_failing_disk_is_told_in_one_line() -> None:
    folder = OutputFolder(Path("out"), overwrite=False)
    with pytest.raises(Usage, match="cannot write to 'out': No space left"), folder.writing("a"):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tabby", "tabby"),
        ("Greater Swiss Mountain dog", "Greater-Swiss-Mountain-dog"),
        ("gradcampp:variant=grad-cam", "gradcampp-variant=grad-cam"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("a__b", "a-b"),
        ("Café Zürich", "Cafe-Zurich"),
        ("=cmd()", "cmd"),
        ("\x1b[31m\u202e", "31m"),
        ("日本", "unnamed"),
        ("", "unnamed"),
        ("...", "unnamed"),
        ("x" * 300, "x" * 60),
        ("a" * 59 + "-b", "a" * 59),
    ],
)
def test_slugs(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_names_differ_even_where_case_does_not_count() -> None:
    names = Names()
    taken = [names.take(stem, "gradcam") for stem in ("cat", "Cat", "cat-2", "c/at", "日", "本")]
    assert taken == [
        "cat__gradcam",
        "Cat__gradcam-2",
        "cat-2__gradcam",
        "c-at__gradcam",
        "unnamed__gradcam",
        "unnamed__gradcam-2",
    ]
    assert len({name.casefold() for name in taken}) == len(taken)


def test_a_numbered_name_may_be_taken_already() -> None:
    names = Names()
    assert [names.take(stem) for stem in ("cat-2", "cat", "cat", "cat")] == [
        "cat-2",
        "cat",
        "cat-3",
        "cat-4",
    ]


def test_equal_stems_and_hostile_names_get_their_own_files(run, net: str, photo: Path) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "cat.png").write_bytes(photo.read_bytes())
    hostile = ["CAT.png", "-rf.png", "..png", "<img onerror=alert(1)>.png"]
    for name in hostile:
        Path(name).write_bytes(photo.read_bytes())
    images = ["a/cat.png", "b/cat.png", *(f"./{name}" for name in hostile)]
    assert run("explain", *images, "--model", net, "-o", "out").code == 0
    rows = parsed("out/results.jsonl")
    assert [row["image"] for row in rows] == [str(Path(image)) for image in images]
    files = [name for row in rows for name in row["files"].values()]
    assert len(set(files)) == 2 * len(images)
    assert sorted([*files, "results.jsonl", "run.json"]) == listing()


def test_a_run_that_breaks_is_not_marked_complete(
    run, net: str, photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from camkit.run import draw

    real, calls = draw.Artist.draw, []

    def full_disk(self, photo, ones):
        calls.append(photo)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self, photo, ones)

    monkeypatch.setattr(draw.Artist, "draw", full_disk)
    done = run("explain", *photos(4), "--model", net, "-o", "out")
    assert done.code == 1
    assert not Path("out/run.json").exists()
    rows = parsed("out/results.jsonl")
    assert [row["image"] for row in rows] == ["box0.png", "box1.png"]
    monkeypatch.setattr(draw.Artist, "draw", real)
    assert run("explain", *photos(1), "--model", net, "-o", "out").code == 0
    assert len([name for name in listing() if name.startswith("overlays")]) == 1


def test_a_finished_folder_is_refused_before_the_model_is_loaded(
    run, net: str, photo: Path
) -> None:
    assert run("explain", photo, "--model", net, "-o", "out").code == 0
    before = {name: Path("out", name).read_bytes() for name in listing()}
    done = run("explain", photo, "--model", "missing.py:build", "-o", "out")
    assert done.code == 2
    assert "--overwrite" in done.err
    assert {name: Path("out", name).read_bytes() for name in listing()} == before


def test_a_wrong_command_with_overwrite_keeps_the_old_run(run, net: str, photo: Path) -> None:
    assert run("explain", photo, "--model", net, "-o", "out").code == 0
    before = {name: Path("out", name).read_bytes() for name in listing()}
    for wrong in (["-t", "9"], ["--colormap", "jett"], ["-l", "nope"]):
        argv = ["explain", "missing.png", photo, "--model", net, "-o", "out", "--overwrite"]
        assert run(*argv, *wrong).code == 2
    assert {name: Path("out", name).read_bytes() for name in listing()} == before
