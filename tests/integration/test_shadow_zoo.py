"""On real networks the captured run is the model's own, bit for bit, on copies of its modules."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from camkit_core import CamkitError, ChannelsFirst, explain, probe_layers

from .zoo_helpers import (
    TIMM,
    TORCHVISION,
    Plain,
    Spread,
    Subject,
    alike,
    as_row,
    path_to,
    picked,
    ran_during,
    unchanged,
)

SUBJECTS = [
    pytest.param(subject, id=subject.name, marks=[pytest.mark.slow] if subject.slow else [])
    for subject in TORCHVISION + TIMM
]

TWO_KERNELS = {
    *("beit_base_patch16_224", "samvit_base_patch16", "maxxvit_rmlp_nano_rw_256", "vit_b_32")
}
"""Their attention runs another kernel where a graph is built, which here is from the layer on."""


@pytest.fixture(scope="module")
def built():
    """The network of the test at hand; only the last one is kept."""
    kept: dict[str, nn.Module] = {}

    def build(subject: Subject) -> nn.Module:
        if subject.name not in kept:
            kept.clear()
            kept[subject.name] = subject.build()
        return kept[subject.name]

    return build


def telling(raw):
    """Every map varies."""
    flat = raw.double().flatten(1)
    assert bool((flat.std(1) > 1e-3 * flat.abs().amax(1)).all()), "degenerate"
    assert bool((flat.abs().amax(1) > 0).all()), "empty"


def test_the_zoo_is_large_enough():
    quick = [subject for subject in TORCHVISION + TIMM if not subject.slow]
    assert len(quick) >= 40
    assert len({subject.name for subject in TORCHVISION + TIMM}) == len(TORCHVISION + TIMM)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_outputs_are_bit_identical_and_no_original_on_the_path_ran(subject, built):
    net, x = built(subject), subject.images()
    layers = picked(net, (x,), len(x))
    with torch.no_grad():
        plain = net(x)
    with_graph = net(x)
    originals = set.union(*(path_to(net, layer) for layer in layers))
    with unchanged(net, x):
        for method in (Plain(), Spread()):
            found, ran = ran_during(lambda m=method: explain(net, x, m, 0, layers, reshape=as_row))
            assert not ran & originals
            assert found.provenance.forwards == 1
            if method.name == "plain":
                assert alike(found.output, plain)
            elif subject.name not in TWO_KERNELS:
                assert alike(found.output, plain) or alike(found.output, with_graph)
            else:
                torch.testing.assert_close(found.output, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_default_layer_has_a_map_that_shows_something_or_the_layout_is_asked_for(
    subject, built
):
    net, x = built(subject), subject.images()
    with torch.no_grad():
        net(x)  # some networks keep something of their first forward
    if not subject.default:
        with pytest.raises(CamkitError, match="tokens"):
            explain(net, x, "gradcam")
        return
    with unchanged(net, x):
        found = explain(net, x, "gradcam")
    assert found.provenance.layers == (subject.default,)
    telling(found.raw[subject.default])
    assert "no_localisation" not in {issue.code for issue in found.issues}


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet_b0", "convnext_tiny"])
def test_a_network_in_training_mode_is_explained_as_in_eval_mode(name):
    (subject,) = [one for one in TORCHVISION if one.name == name]
    x = subject.images()
    wanted = explain(subject.build(), x, "gradcam", 0)
    net = subject.build().train()
    with unchanged(net, x):
        found = explain(net, x, "gradcam", 0)
    assert torch.equal(found.output, wanted.output)
    assert torch.equal(found.maps, wanted.maps)


class Listed(nn.Module):
    """A ResNet whose stages are called from a list, past the module tree."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = torchvision.models.resnet18(weights=None, num_classes=7)
        net = self.net
        self.stages = [net.layer1, net.layer2.forward, net.layer3.__call__, net.layer4]

    def forward(self, x):
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for stage in self.stages:
            x = stage(x)
        return net.fc(net.avgpool(x).flatten(1))


@pytest.mark.parametrize("layer", ["layer4", "layer4.1.conv2", "layer3"])
def test_where_a_copy_cannot_be_hooked_the_fall_back_gives_the_same_map(layer):
    net, x = Listed().eval(), TORCHVISION[2].images()
    wanted = explain(net.net, x, "gradcam", 2, layer)
    with unchanged(net, x):
        found = explain(net, x, "gradcam", 2, f"net.{layer}")
    telling(wanted.raw[layer])
    assert torch.equal(found.raw[f"net.{layer}"], wanted.raw[layer])
    assert torch.equal(found.output, wanted.output)
    assert found.provenance.forwards == 2
    assert ["past the module tree" in note for note in found.provenance.notes] == [True]


def test_a_stage_called_by_its_forward_runs_no_hook_and_is_said_to_have_not_run():
    net, x = Listed().eval(), TORCHVISION[2].images()
    with unchanged(net, x), pytest.raises(CamkitError, match=r"'net.layer2' did not run"):
        explain(net, x, "gradcam", 2, "net.layer2")


def test_the_default_layer_of_a_network_called_past_its_tree_is_that_of_the_plain_one():
    net, x = Listed().eval(), TORCHVISION[2].images()
    assert probe_layers(net, x).default == "net.layer4"


def test_a_detector_answers_bit_for_bit_the_same():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=5, box_score_thresh=0.0,
            min_size=96, max_size=128,
        ).eval()  # fmt: skip
    x = torch.rand(2, 3, 96, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(x)
    assert all(len(one["scores"]) for one in wanted), "no boxes: nothing to compare"

    def best_box(out):
        return out["scores"].max()

    layers = ["backbone.body.6", "backbone.body.16", "backbone.fpn.inner_blocks.0"]
    originals = set.union(*(path_to(net, layer) for layer in layers))
    for method in (Plain(), Spread()):
        with unchanged(net, x):
            found, ran = ran_during(
                lambda m=method: explain(net, x, m, best_box, layers, reshape=ChannelsFirst())
            )
        assert not ran & originals
        assert alike(found.output, wanted)
        assert torch.equal(found.score, torch.stack([one["scores"].max() for one in wanted]))
    for layer in layers:
        telling(found.raw[layer])


def test_a_segmentation_network_answers_bit_for_bit_the_same():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=6, aux_loss=True
        ).eval()
    x = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(x)
    layers = ["backbone.8", "classifier.0", "classifier.1"]
    originals = set.union(*(path_to(net, layer) for layer in layers))

    def third(out):
        return out["out"][3].mean()

    with unchanged(net, x):
        found, ran = ran_during(lambda: explain(net, x, Spread(), third, layers))
    assert not ran & originals
    assert alike(found.output, wanted)
    for layer in layers:
        telling(found.raw[layer])
