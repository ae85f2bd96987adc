"""The default layer of a detector is one that every detection is computed from."""

from __future__ import annotations

import pytest
import torch
from tasks_proof.methods import Drops, Slope
from torch import nn
from torchvision.models import detection, resnet18, segmentation

from camkit_core import explain, probe_layers
from camkit_tasks.default_detection import default_layer

RANDOM = {"weights": None, "weights_backbone": None}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "backbone.body.16"),
        ("retinanet_resnet50_fpn", "backbone.body.layer4"),
        ("fcos_resnet50_fpn", "backbone.body.layer4"),
        ("ssd300_vgg16", "backbone.features"),
        ("ssdlite320_mobilenet_v3_large", "backbone.features.0"),
    ],
)
def test_torchvision(name, layer):
    with torch.device("meta"):
        model = detection.__dict__[name](**RANDOM)
    assert default_layer(model) == layer
    assert default_layer(nn.Sequential(model)) == f"0.{layer}"


def test_others_are_left_to_others():
    with torch.device("meta"):
        others = [resnet18(), segmentation.lraspp_mobilenet_v3_large(**RANDOM), nn.Sequential()]
    assert [default_layer(model) for model in others] == [None] * 3


# --- a network shaped like YOLO --------------------------------------------------------------


class Concat(nn.Module):
    """Several layers side by side, the coarser ones enlarged."""

    def forward(self, inputs):
        size = inputs[-1].shape[2:]
        return torch.cat([nn.functional.interpolate(one, size) for one in inputs], 1)


class Detect(nn.Module):
    """Boxes and class scores of every cell of several levels, `[N, 4 + classes, anchors]`."""

    def __init__(self, widths, classes):
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, 4 + classes, 1) for width in widths)

    def forward(self, levels):
        found = torch.cat([h(x).flatten(2) for h, x in zip(self.heads, levels, strict=True)], 2)
        boxes = torch.cat([48 * found[:, :2].sigmoid(), 24 * found[:, 2:4].sigmoid()], 1)
        return torch.cat([boxes, found[:, 4:].sigmoid()], 1), levels


def placed(layer, number, source):
    """A layer that knows its number and where its input comes from."""
    layer.i, layer.f = number, source
    return layer


def conv(a, b, stride=1):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.SiLU())


class Yolo(nn.Module):
    """Backbone 0-2, top-down path 3-4, then bottom-up 5-6; the head reads 4 and 6."""

    def __init__(self, classes=3):
        super().__init__()
        layers = [
            (conv(3, 4, 2), -1),
            (conv(4, 6, 2), -1),
            (conv(6, 8, 2), -1),
            (Concat(), [-1, 1]),
            (conv(14, 6), -1),
            (Concat(), [2, 4]),
            (conv(14, 8, 2), -1),
            (Detect([6, 8], classes), [4, 6]),
        ]
        self.model = nn.Sequential(
            *(placed(layer, i, source) for i, (layer, source) in enumerate(layers))
        )
        self.names = {0: "cat", 1: "dog", 2: "owl"}

    def forward(self, x):
        kept = []
        for layer in self.model:
            source = layer.f
            if isinstance(source, list):
                x = [kept[one] if one >= 0 else kept[layer.i + one] for one in source]
            x = layer(x)
            kept.append(x)
        return x


def yolo(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Yolo().double().eval()
    for parameter in net.parameters():
        parameter.data *= 2
    return net


def pictures(n=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, 48, 64, generator=generator, dtype=torch.float64)


def test_the_last_layer_that_both_inputs_of_the_head_depend_on():
    net, x = yolo(), pictures()
    assert default_layer(net) == "model.4"
    assert default_layer(net.model) == "4"
    anchors = net(x)[0].shape[2]
    for index in (0, anchors - 1):  # of the fine level, and of the coarse one
        for layer, reached in (("model.4", True), ("model.6", index > 0)):
            kept = []
            handle = net.get_submodule(layer).register_forward_hook(
                lambda module, args, output, kept=kept: kept.append(output)
            )
            score = net(x)[0][0, 4, index]
            handle.remove()
            (slope,) = torch.autograd.grad(score, kept, allow_unused=True)
            assert (slope is not None and bool(slope.any())) == reached


def test_explained_with_no_argument_but_model_and_image():
    net, x = yolo(), pictures()
    output = net(x)[0]
    found = explain(net, x, Slope())
    assert found.provenance.layers == ("model.4",)
    best = output[:, 4:].amax((1, 2))
    torch.testing.assert_close(found.score, best.detach())
    labels = output[:, 4:].amax(2).argmax(1).tolist()
    assert [label.split(" in ")[0] for label in found.target.labels] == [
        f"class {label}" for label in labels
    ]
    for raw in found.raw.values():
        assert bool(torch.isfinite(raw).all())
        assert float(raw.std()) > 0
    by_hand = explain(net, x, Slope(), target="box:0", layers="model.4", reshape="channels_first")
    assert torch.equal(by_hand.raw["model.4"], found.raw["model.4"])
    drops = explain(net, x, Drops(), target="box:owl")
    assert not [note for note in drops.provenance.notes if "SLOW" in note]
    torch.testing.assert_close(drops.score, output[:, 6].amax(1).detach())


def test_the_gradient_of_a_numbered_prediction():
    net, x = yolo(), pictures(1)
    index = int(net(x)[0].shape[2]) - 3
    found = explain(net, x, Slope(), target=f"prediction:{index}:dog.logit")
    kept = []
    handle = net.model[4].register_forward_hook(lambda module, args, output: kept.append(output))
    score = net(x)[0][0, 5, index].logit()
    handle.remove()
    (slope,) = torch.autograd.grad(score, kept)
    torch.testing.assert_close(found.raw["model.4"], (slope * kept[0]).sum(1).detach())
    assert found.target.boxes.shape == (1, 1, 4)


def test_layers_report_says_why():
    report = probe_layers(yolo(), pictures())
    assert report.default == "model.4"
