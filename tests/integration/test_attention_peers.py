"""The attention methods on networks of three libraries, against their equations and torchcam."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torchcam.methods import LeGrad

from camkit import compare, explain
from camkit_core import CapabilityError

from . import attention_helpers as paper
from .attention_helpers import CLASSES, FAMILIES, HEADS, PATCH, WIDTH, Family, pictures, seeded
from .parity_helpers import one_thread, require
from .state_helpers import close, unchanged

TARGET = 3
METHODS = {
    "rollout": paper.rollout,
    "chefer": paper.chefer,
    "gradeclip": paper.gradeclip,
    "attcat": paper.attcat,
}
NAMES = [*METHODS, "legrad"]
FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    require("torchcam")
    with one_thread():
        yield


def logits(output: Any) -> Tensor:
    """Of any library."""
    return output if isinstance(output, Tensor) else output.logits


def on_grid(tokens: Tensor, family: Family) -> Tensor:
    """`[N, T]` without prefix tokens."""
    return tokens[:, family.prefix :].unflatten(1, family.grid).detach()


@FAMILY
@pytest.mark.parametrize("name", METHODS)
def test_equal_to_the_equation_on_blocks_run_step_by_step(family: Family, name: str) -> None:
    net, x = seeded(family.make), pictures(family.size)
    steps, tail = family.steps(net, x)
    steps.first = family.prefix
    output = tail(steps.h[-1])
    close(logits(net(x)).detach(), output.detach(), 1e-12)
    wanted = on_grid(METHODS[name](steps, output[:, TARGET], family.rows), family)
    close(explain(net, x, name, TARGET).raw["input"], wanted, 1e-9)


@FAMILY
def test_legrad_is_the_gradient_of_each_blocks_own_score(family: Family) -> None:
    net, x = seeded(family.make), pictures(family.size)
    steps, tail = family.steps(net, x)
    maps = []
    for p, h in zip(steps.p, steps.h, strict=True):
        score = tail(h.mean(1, keepdim=True).expand_as(h))[:, TARGET].sum()
        maps.append(torch.autograd.grad(score, p, retain_graph=True)[0].clamp(min=0).mean((1, 2)))
    wanted = on_grid(torch.stack(maps).mean(0), family)
    close(explain(net, x, "legrad", TARGET).raw["input"], wanted, 1e-9)


@pytest.mark.parametrize("blocks", [[0, 1, 2], [2], [1]])
def test_legrad_equals_torchcams_on_the_same_blocks(blocks: list[int]) -> None:
    net, x = seeded(FAMILIES["torchvision"].make), pictures((32, 32))
    rows = list(net.encoder.layers)  # type: ignore[operator,union-attr]
    with LeGrad(net, [rows[index] for index in blocks]) as peer:
        scores = net(x)
        (wanted,) = peer.compute_cams([TARGET] * len(x), scores, normalized=False)
    found = explain(net, x, "legrad", TARGET, start=blocks[0], stop=blocks[-1] + 1)
    close(found.raw["input"], wanted, 1e-12)


@FAMILY
def test_all_of_them_share_one_forward_and_leave_the_model_alone(family: Family) -> None:
    net, x = seeded(family.make), pictures(family.size)
    with unchanged(net, x):
        found = compare(net, x, NAMES, [0, TARGET])
    for name in NAMES:
        explanation = found[name, 1]
        assert explanation.provenance.forwards == 1
        close(explanation.raw["input"], explain(net, x, name, TARGET).raw["input"])
        assert explanation.maps.shape == (len(x), *family.size)
        codes = {issue.code for issue in explanation.issues}
        assert codes <= ({"all_negative"} if name == "attcat" else set())


def test_written_out_attention_gives_the_maps_of_fused_attention() -> None:
    pair = FAMILIES["timm"], FAMILIES["timm, written out"]
    x = pictures((32, 32))
    for name in NAMES:
        fused, plain = (explain(seeded(one.make), x, name, TARGET).raw["input"] for one in pair)
        close(fused, plain)


def test_transformers_eager_attention_agrees_within_its_own_precision() -> None:
    """Its softmax is in float32 whatever the model is in."""
    x = pictures((32, 32))
    for name in NAMES:
        fused, eager = (
            explain(seeded(lambda kind=kind: paper._hf(kind)), x, name, TARGET).raw["input"]
            for kind in ("sdpa", "eager")
        )
        close(eager.double(), fused, 1e-5)


# -- other families --------------------------------------------------------------------------------


def _config(kind: type, **words: Any) -> Any:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    return kind(image_size=32, patch_size=PATCH, intermediate_size=2 * WIDTH, **sizes, **words)


def _dinov2() -> nn.Module:
    config = _config(
        transformers.Dinov2WithRegistersConfig, num_register_tokens=4, num_labels=CLASSES
    )
    return transformers.Dinov2WithRegistersForImageClassification(config)


def _deit() -> nn.Module:
    config = _config(transformers.DeiTConfig, num_labels=CLASSES)
    return transformers.DeiTForImageClassificationWithTeacher(config)


def _clip() -> nn.Module:
    config = _config(transformers.CLIPVisionConfig, projection_dim=6)
    return transformers.CLIPVisionModelWithProjection(config)


def _siglip() -> nn.Module:
    return transformers.SiglipVisionModel(_config(transformers.SiglipVisionConfig))


def _pooled() -> nn.Module:
    return timm.models.vision_transformer.VisionTransformer(
        32, PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=CLASSES,
        class_token=False, global_pool="map",
    )  # fmt: skip


def first(output: Any) -> Tensor:
    """A score of an embedding: one of its entries."""
    return output[0] if isinstance(output, Tensor) else output


OTHERS: dict[str, tuple[Any, dict[str, Any], list[int]]] = {
    "DINOv2 with registers": (_dinov2, {}, [0, *range(5, 21)]),
    "distilled DeiT": (_deit, {}, [0, 1]),
    "CLIP's image side": (_clip, {"output": "image_embeds"}, [0]),
    "SigLIP's image side": (_siglip, {"output": "pooler_output"}, list(range(16))),
    "timm with attention for pooling": (_pooled, {}, list(range(16))),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_families_are_read_where_their_score_is(kind: str) -> None:
    make, words, rows = OTHERS[kind]
    net, x = seeded(make), pictures((32, 32))
    seen: list[list[int]] = []

    class Rows:
        name = "rows"
        needs = paper_needs()

        def __call__(self, capture: Any, /) -> Tensor:
            seen.append(capture.readers.nonzero().flatten().tolist())
            return capture.attention[0].weights.mean((1, 2))[:, capture.grid]

    target = first if "output" in words else TARGET
    explain(net, x, Rows(), target, **words)
    assert seen == [rows]
    for name in NAMES:
        raw = explain(net, x, name, target, **words).raw["input"]
        assert raw.shape == (2, 4, 4)
        assert raw.std() > 1e-3 * raw.abs().max() > 0, name


def paper_needs() -> Any:
    """Attention without gradients: what is read is found from the model's head alone."""
    from camkit_core import Need

    return Need.ATTENTION


WINDOWS = {
    "torchvision swin": lambda: torchvision.models.swin_t(weights=None),
    "timm swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", pretrained=False),
    "torchvision maxvit": lambda: torchvision.models.maxvit_t(weights=None),
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_attention_within_windows_is_refused(kind: str) -> None:
    net, x = WINDOWS[kind]().eval(), pictures((224, 224), 1).float()
    with pytest.raises(CapabilityError, match=r"attends in groups .* within windows"):
        explain(net, x, "rollout", TARGET)


def test_a_convolutional_network_has_no_attention() -> None:
    net = torchvision.models.resnet18(weights=None)
    for name in NAMES:
        with pytest.raises(CapabilityError, match="no attention ran in this ResNet"):
            explain(net, pictures((64, 64)).float(), name, TARGET)


def test_talking_heads_are_refused() -> None:
    net = timm.models.cait.Cait(
        32, PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=CLASSES
    ).eval()
    with pytest.raises(CapabilityError, match="talking heads"):
        explain(net, pictures((32, 32)).float(), "chefer", TARGET)


def test_second_order_goes_through_multihead_attention() -> None:
    """Shapley-CAM's weights mean(G - H A / 2), with the Hessian by differences of gradients."""
    net, x = seeded(FAMILIES["torchvision"].make), pictures((32, 32))
    layer = net.encoder.layers.encoder_layer_1  # type: ignore[union-attr]
    found = explain(net, x, "shapleycam", TARGET, "encoder.layers.encoder_layer_1")
    twin, states = copy.deepcopy(net), list[Tensor]()
    layer = twin.encoder.layers.encoder_layer_1  # type: ignore[union-attr]

    def slope(scale: float) -> Tensor:
        """Gradient with the patches' activations scaled, the class token as it is."""
        states.clear()

        def change(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            at = torch.cat([output[:, :1], output[:, 1:] * (1 + scale)], 1).detach()
            states.append(at.requires_grad_())
            return states[0]

        handle = layer.register_forward_hook(change)
        score = twin(x)[:, TARGET].sum()
        handle.remove()
        return torch.autograd.grad(score, states[0])[0][:, 1:]

    step = 1e-5
    product = (slope(step) - slope(-step)) / (2 * step)
    here = slope(0.0)
    activations = states[0].detach()[:, 1:]
    weights = (here - product / 2).mean(1)
    wanted = (weights[:, None] * activations).sum(2).unflatten(1, (4, 4))
    (raw,) = found.raw.values()
    close(raw, wanted, 1e-7)
