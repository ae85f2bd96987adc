"""Reading back: everything that was saved, and nothing that could run."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from camkit_core import UnsafeFileError
from camkit_render import NpzWriter, SafetensorsWriter, load
from camkit_render.record import record

WRITERS = {".npz": NpzWriter, ".safetensors": SafetensorsWriter}


@pytest.fixture
def explanation(make):
    generator = torch.Generator().manual_seed(8)
    return make(
        torch.rand(2, 6, 6, generator=generator),
        raw={
            name: torch.randn(2, 3, 3, generator=generator)
            for name in ("layer4.1", "relu#1", "a/b", "../up", "\u5c42 %2F")
        },
        score=[1.5, -2.0],
        parameters={"variant": "paper"},
    )


@pytest.mark.parametrize("suffix", WRITERS)
def test_round_trip(explanation, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix]()(explanation, path)
    found = load(path)
    assert torch.equal(found["maps"], explanation.maps)
    assert torch.equal(found["score"], explanation.score)
    assert set(found["raw"]) == set(explanation.raw)
    for layer, raw in explanation.raw.items():
        assert torch.equal(found["raw"][layer], raw)
    assert found["provenance"]["parameters"] == {"variant": "paper"}
    assert found["record"] == record(explanation)


def test_npz_members_cannot_leave_their_folder(explanation, tmp_path):
    NpzWriter()(explanation, tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        for name in archive.namelist():
            assert ".." not in name.split("/")
            assert name.count("/") <= 1


def test_bfloat16_survives_both_formats(make, tmp_path):
    explanation = make(torch.rand(1, 4, 4).to(torch.bfloat16))
    for suffix, writer in WRITERS.items():
        writer()(explanation, tmp_path / f"a{suffix}")
        assert torch.equal(load(tmp_path / f"a{suffix}")["maps"].float(), explanation.maps.float())


def test_a_pickle_is_never_opened(tmp_path):
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    np.savez(tmp_path / "a.npz", maps=np.array([Bomb()], dtype=object), provenance=np.array("{}"))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(UnsafeFileError, match=name):
            load(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_truncated_file_is_named(explanation, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix]()(explanation, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnsafeFileError, match=r"a\.(npz|safetensors).*damaged.*save it again"):
        load(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_would_not_fit_is_refused_before_reading(explanation, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix]()(explanation, path)
    with pytest.raises(UnsafeFileError, match="more than the 100 allowed"):
        load(path, largest=100)


def test_other_files_are_refused(tmp_path, explanation):
    np.savez(tmp_path / "foreign.npz", maps=np.zeros(3))
    save_file({"maps": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    (tmp_path / "picture.png").write_bytes(b"")
    for name in ("foreign.npz", "foreign.safetensors", "picture.png"):
        with pytest.raises(UnsafeFileError, match=name):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load(tmp_path / "none.npz")


def test_a_newer_format_is_refused(explanation, tmp_path, monkeypatch):
    monkeypatch.setattr("camkit_render.record.VERSION", 99)
    NpzWriter()(explanation, tmp_path / "a.npz")
    with pytest.raises(UnsafeFileError, match="version 99 is newer than 1; update camkit"):
        load(tmp_path / "a.npz")
