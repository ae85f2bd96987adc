"""Weight files: read without running them, unwrapped, and fitted or refused."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import DenseNet, MNASNet, VisionTransformer

from camkit_core import ModelError, UnsafeFileError
from camkit_tasks.loaders.weights import load_into, read_weights


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def assert_same(model: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": dict(state), "optimizer": {"lr": 0.1}},
    "nested": lambda state: {"model": {"state_dict": state}} and {"state_dict": {"model": state}},
    "data parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled": lambda state: {"model": {f"_orig_mod.{k}": v for k, v in state.items()}},
    "both": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "both, other way": lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrappings_of_training_scripts(name, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    source, model = small(1), small(2)
    torch.save(WRAPPINGS[name](source.state_dict()), path)
    load_into(model, read_weights(path))
    assert_same(model, source)


def test_safetensors_and_half_precision(tmp_path):
    path = tmp_path / "weights.safetensors"
    source, model = small(1).half(), small(2)
    save_file(source.state_dict(), path)
    load_into(model, read_weights(path))
    assert_same(model, source.float())
    assert next(model.parameters()).dtype == torch.float32


class _Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    proof, path = tmp_path / "ran", tmp_path / "weights.pth"
    torch.save({"state_dict": small().state_dict(), "hook": _Bomb(proof)}, path)
    with pytest.raises(
        UnsafeFileError, match=r"refused.*run any code.*safetensors.*file\.py:factory"
    ):
        read_weights(path)
    assert not proof.exists()
    with path.open("wb") as file:  # the same without torch's container
        pickle.dump(_Bomb(proof), file)
    with pytest.raises(UnsafeFileError):
        read_weights(path)
    assert not proof.exists()
    with path.open("rb") as file:
        pickle.load(file)
    assert proof.exists()  # the bomb does go off where it is let


def test_a_whole_pickled_model_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(small(), path)
    with pytest.raises(UnsafeFileError, match=r"save model\.state_dict"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(small().state_dict(), path)
    else:
        save_file(small().state_dict(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a file of this kind at all"):
        path.write_bytes(content)
        with pytest.raises(
            (ModelError, UnsafeFileError), match=r"cannot be read|refused"
        ) as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds a dict, not a state dict"),
        ({"epoch": 3, "best": 0.9}, "holds a dict with 'epoch', 'best'"),
        ({"state_dict": {"a": 1}}, "holds a dict with 'a'"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_what_is_no_state_dict(content, words, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match=words):
        read_weights(path)


def test_missing_file_with_near_miss(tmp_path):
    save_file(small().state_dict(), tmp_path / "resnet_best.safetensors")
    with pytest.raises(ModelError, match=r"does not exist.*'resnet_best\.safetensors'"):
        read_weights(tmp_path / "resnet_bset.safetensors")


def test_mismatches_are_listed(tmp_path):
    path = tmp_path / "weights.pth"
    state = small().state_dict()
    del state["0.weight"], state["0.bias"]
    state |= {"3.weight": torch.zeros(5, 9), "head.weight": torch.zeros(1)}
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_into(small(), read_weights(path))
    text = str(caught.value)
    assert "2 missing: 0.weight, 0.bias" in text
    assert "1 unexpected: head.weight" in text
    assert "1 of another shape: 3.weight [5, 9] instead of [5, 4]" in text
    assert "does not fit Sequential" in text
    assert "\n" not in text


def test_long_lists_are_cut(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({f"layer{k}": torch.zeros(1) for k in range(9)}, path)
    with pytest.raises(ModelError, match="9 unexpected: layer0, layer1, layer2 and 6 more"):
        load_into(small(), read_weights(path))


def test_old_batchnorm_without_counter(tmp_path):
    path = tmp_path / "weights.safetensors"
    state = small(1).state_dict()
    del state["1.num_batches_tracked"]
    save_file(state, path)
    model = small(2)
    load_into(model, read_weights(path))
    assert torch.equal(model[3].weight, small(1)[3].weight)


def test_names_of_older_torchvision_layouts(tmp_path):
    """The published DenseNet and ViT files still use them."""
    dense = lambda: DenseNet(4, (1, 1), 8, num_classes=3).eval()  # noqa: E731
    vit = lambda: VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3).eval()  # noqa: E731
    renamings = {
        dense: {"norm1.": "norm.1.", "norm2.": "norm.2.", "conv1.": "conv.1.", "conv2.": "conv.2."},
        vit: {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."},
    }
    for build, renaming in renamings.items():
        source, model = build(), build()
        state = OrderedDict()
        for name, tensor in source.state_dict().items():
            old = name
            for new, former in renaming.items():
                inside = "denselayer" in name or "mlp" in name
                old = old.replace(new, former) if inside else old
            state[old] = tensor
        assert set(state) != set(source.state_dict())
        path = tmp_path / "old.pth"
        torch.save(state, path)
        load_into(model, read_weights(path))
        assert_same(model, source)


def test_a_network_that_insists_on_its_layout_version(tmp_path):
    source, model = MNASNet(0.5, num_classes=3), MNASNet(0.5, num_classes=3)
    save_file(source.state_dict(), tmp_path / "a.safetensors")  # cannot carry versions
    torch.save(source.state_dict(), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        load_into(model, read_weights(tmp_path / name))
        assert_same(model, source)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.backbone."])
def test_a_prefix_that_was_taken_off_is_reported(prefix, tmp_path):
    source, model, path = small(1), small(), tmp_path / "wrapped.safetensors"
    save_file({prefix + name: value for name, value in source.state_dict().items()}, path)
    (note,) = load_into(model, read_weights(path))
    assert note == f"wrapped.safetensors: the prefix {prefix!r} was taken off all names"
    assert_same(model, source)


def test_names_that_need_no_change_get_no_note(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file(small().state_dict(), path)
    assert load_into(small(), read_weights(path)) == ()


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    path = tmp_path / "mixed.safetensors"
    state = {f"model.{name}": value for name, value in small().state_dict().items()}
    save_file({**state, "criterion.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"missing.*unexpected.*criterion\.weight"):
        load_into(small(), read_weights(path))
