"""Loaders of timm and transformers where these are not installed, and ImageNet's ids."""

from __future__ import annotations

import importlib.util
import socket
import sys
from types import SimpleNamespace

import pytest

from camkit_core import ModelError, default_registry
from camkit_tasks.loaders import hub, imagenet
from camkit_tasks.loaders.hf_request import parse

NAMES = [
    "tench, Tinca tinca",
    *map(str, range(998)),
    "toilet tissue, toilet paper, bathroom tissue",
]


@pytest.mark.parametrize(
    ("spec", "package"), [("timm:resnet18@none", "timm"), ("hf:vit@none", "transformers")]
)
def test_a_missing_package_is_named(spec, package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"needs the package {package}.*pip install {package}"):
        default_registry().load_model(spec)


@pytest.mark.parametrize(
    ("spec", "name", "task", "source"),
    [
        ("hf:vit@none", "vit", "", "none"),
        ("hf: a/b#features @ w.pth", "a/b", "features", "w.pth"),
        ("hf:folder@home", "folder@home", "", ""),
        ("hf:folder@home@NONE", "folder@home", "", "NONE"),
        ("hf:x@y.safetensors", "x", "", "y.safetensors"),
    ],
)
def test_specifications_are_taken_apart(spec, name, task, source):
    found = parse(spec)
    assert (found.name, found.task, found.source) == (name, task, source)


def test_an_unknown_task():
    with pytest.raises(ModelError, match=r"no task 'segment'; did you mean 'segmentation'.*tasks"):
        parse("hf:segformer#segment@none")


# -- ImageNet --------------------------------------------------------------------------------------


@pytest.fixture
def fake_timm(monkeypatch, tmp_path):
    """A package that ships 1000 ids, or whatever the file is made to hold."""
    folder = tmp_path / "data" / "_info"
    folder.mkdir(parents=True)
    file = folder / "imagenet_synsets.txt"
    file.write_text("\n".join(f"n{index:08}" for index in range(1000)))
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    imagenet.wordnet_ids.cache_clear()
    yield file
    imagenet.wordnet_ids.cache_clear()


def test_ids_go_with_imagenet_s_names_only(fake_timm):
    assert imagenet.ids_of(NAMES)[281] == "n00000281"
    assert imagenet.ids_of(NAMES[:999]) == ()
    assert imagenet.ids_of(["cat", *NAMES[1:]]) == ()
    assert imagenet.ids_of([]) == ()


@pytest.mark.parametrize("text", ["n00000001", "\n".join(["tench"] * 1000)])
def test_a_file_that_holds_something_else_is_not_believed(fake_timm, text):
    fake_timm.write_text(text)
    assert imagenet.ids_of(NAMES) == ()


def test_without_timm_there_are_no_ids(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    imagenet.wordnet_ids.cache_clear()
    try:
        assert imagenet.ids_of(NAMES) == ()
        assert imagenet.described(1000) == ((), ())
    finally:
        imagenet.wordnet_ids.cache_clear()


# -- the server of the weights ---------------------------------------------------------------------


@pytest.fixture
def fake_hub(monkeypatch):
    """The settings of the library that downloads."""
    constants = SimpleNamespace(HF_HUB_OFFLINE=False, ENDPOINT="https://weights.example")
    module = SimpleNamespace(constants=constants)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    return constants


def unknown(host, port):
    raise socket.gaierror(-2, "Name or service not known")


def test_a_server_whose_name_is_not_known_is_out_of_reach(fake_hub, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: asked.append(host))
    assert hub.reachable()
    assert asked == ["weights.example"]
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not hub.reachable()
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "proxy"})
    assert hub.reachable()


def test_a_library_told_to_stay_offline_is_not_asked(fake_hub):
    fake_hub.HF_HUB_OFFLINE = True
    assert not hub.reachable()


def test_offline_for_a_while(fake_hub):
    with hub.cached_only(False):
        assert not fake_hub.HF_HUB_OFFLINE
    inside = []

    def fail() -> None:
        with hub.cached_only(True):
            inside.append(fake_hub.HF_HUB_OFFLINE)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [True]
    assert not fake_hub.HF_HUB_OFFLINE
