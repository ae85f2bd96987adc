"""Random networks of torchvision and timm, small inputs, and what ran during a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from camkit_core import Capture, MethodModel, Need

from .family_helpers import seeded

sys.path.insert(0, str(Path(__file__).parents[1] / "camkit_core"))

from core_proof.snapshot import unchanged

__all__ = ["TIMM", "TORCHVISION", "Subject", "alike", "picked", "ran_during", "unchanged"]


@dataclass(frozen=True)
class Subject:
    """A network of a library, the size of its input, and the layer explained by default.

    `default` is empty where the layout of its last layers is not known, which must be said.
    """

    name: str
    default: str = ""
    size: int = 64
    slow: bool = False

    def build(self) -> nn.Module:
        """The network in eval mode, with random weights."""
        return seeded(partial(_timm if self in TIMM else _torchvision, self), self.images())

    def images(self) -> Tensor:
        """`[2, 3, H, W]`: two different pictures."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(2, 3, self.size, self.size, generator=generator)


S = Subject
TORCHVISION = (
    *(S("alexnet", "features.10"), S("vgg11", "features"), S("resnet18", "layer4")),
    *(S("resnext50_32x4d", "layer4"), S("densenet121", "features"), S("mobilenet_v2", "features")),
    *(S("mobilenet_v3_small", "features"), S("efficientnet_b0", "features")),
    *(S("convnext_tiny", "features"), S("regnet_y_400mf", "trunk_output")),
    *(S("shufflenet_v2_x0_5", "conv5"), S("squeezenet1_1", "classifier.1")),
    *(S("googlenet", "inception5b"), S("inception_v3", "Mixed_7c", 139), S("mnasnet0_5", "layers")),
    *(S("vit_b_32", "encoder.layers.encoder_layer_11.ln_1"), S("swin_t", "norm")),
    *(S("swin_v2_t", "norm"), S("maxvit_t", "blocks.3", 224, slow=True)),
    S("wide_resnet50_2", "layer4", slow=True),
)
TIMM = (
    *(S("resnet10t", "layer4"), S("mobilevit_xxs", "final_conv")),
    *(S("vit_tiny_patch16_224", "blocks.11.norm1"), S("convnext_atto", "stages")),
    *(S("deit_tiny_distilled_patch16_224", "blocks.11.norm1"), S("convnextv2_atto", "stages")),
    *(S("ghostnet_100", "blocks"), S("repvgg_a0", "stages"), S("resnest14d", "layer4")),
    *(S("poolformer_s12", "stages"), S("edgenext_xx_small", "stages"), S("lcnet_050", "blocks")),
    *(S("xcit_nano_12_p16_224", "cls_attn_blocks.1.norm1"), S("nf_resnet26", "stages")),
    *(S("hrnet_w18_small", "final_layer"), S("dla34", "level5"), S("pvt_v2_b0", "stages")),
    *(S("swin_tiny_patch4_window7_224", "norm"), S("inception_next_atto", "stages")),
    *(S("sequencer2d_s", "norm"), S("vit_small_patch14_dinov2", "blocks.11.norm1", 56)),
    *(S("regnetx_002", "s4"), S("seresnext26t_32x4d", "layer4"), S("efficientnet_lite0", "bn2")),
    *(S("mambaout_femto", "stages"), S("focalnet_tiny_srf", "norm"), S("davit_tiny", "stages")),
    *(S("starnet_s1", "norm"), S("skresnet18", "layer4"), S("twins_svt_small", "norm")),
    *(S("mobileone_s0", "stages", slow=True), S("fastvit_t8", "final_conv", slow=True)),
    *(
        S("mixer_s32_224", "norm", 224, slow=True),
        S("cait_xxs24_224", "blocks_token_only.1.norm1", 224, True),
    ),
    *(S("beit_base_patch16_224", "blocks.11", 32, True), S("levit_128s", "stages", 224, True)),
    *(S("samvit_base_patch16", "neck", slow=True), S("tiny_vit_5m_224", "stages", 224, True)),
    *(S("gcvit_xxtiny", "stages", 224, True), S("convit_tiny", "blocks.11.norm1", 224, True)),
    *(
        S("crossvit_9_240", "blocks.2.fusion.1.norm1", 240, True),
        S("hiera_tiny_224", "blocks.11", 224, True),
    ),
    *(S("maxxvit_rmlp_nano_rw_256", "norm", 256, True), S("nest_tiny", "norm", 224, True)),
)

_SIZED = ("vit_", "deit_", "beit_", "swin_", "xcit_", "samvit_")


def _torchvision(subject: Subject) -> nn.Module:
    words: dict[str, Any] = {"weights": None, "num_classes": 7}
    if subject.name in ("googlenet", "inception_v3"):
        words["init_weights"] = False
    if subject.name.startswith("vit"):
        words["image_size"] = subject.size
    net: nn.Module = torchvision.models.get_model(subject.name, **words)
    return net


def _timm(subject: Subject) -> nn.Module:
    sized = subject.name.startswith(_SIZED)
    words = {"img_size": subject.size} if sized else {}
    net: nn.Module = timm.create_model(subject.name, pretrained=False, num_classes=7, **words)
    return net


class Spread(MethodModel):
    """Gradient times activation, whatever the shape: the layer as one long row."""

    name = "spread"
    needs = Need.ACTIVATIONS | Need.GRADIENTS

    def __call__(self, capture: Capture, /) -> Tensor:
        return (capture.activations * capture.gradients).sum(1)


class Plain(MethodModel):
    """Activations only: no graph is built."""

    name = "plain"
    needs = Need.ACTIVATIONS

    def __call__(self, capture: Capture, /) -> Tensor:
        return capture.activations.mean(1)


def as_row(output: Tensor) -> Tensor:
    """`[N, ...]` as `[N, 1, L, 1]`: readable for any layer."""
    return output.flatten(1)[:, None, :, None]


def picked(net: nn.Module, inputs: Any, images: int) -> tuple[str, str]:
    """A leaf in the middle and one near the end of the pass: run once, one tensor per image."""
    names = {module: name for name, module in net.named_modules()}
    seen: list[str] = []
    fits: set[str] = set()

    def note(module: nn.Module, args: Any, output: Any) -> None:
        name = names.get(module, "")
        seen.append(name)
        leaf = not any(True for _ in module.children())
        if leaf and isinstance(output, Tensor) and output.ndim >= 3 and len(output) == images:
            fits.add(name)

    handle = register_module_forward_hook(note)
    try:
        with torch.no_grad():
            net(*inputs)
    finally:
        handle.remove()
    once = [name for name in seen if name in fits and seen.count(name) == 1]
    return once[len(once) // 2], once[int(0.92 * len(once))]


def ran_during(call: Callable[[], Any]) -> tuple[Any, set[int]]:
    """What `call()` returned, and the identities of all modules whose forward ran."""
    seen: list[nn.Module] = []
    handle = register_module_forward_pre_hook(lambda module, args: seen.append(module))
    try:
        return call(), {id(module) for module in seen}
    finally:
        handle.remove()


def path_to(net: nn.Module, layer: str) -> set[int]:
    """Identities of the root and of every module on the way to a layer."""
    parts = layer.split(".")
    return {id(net.get_submodule(".".join(parts[:depth]))) for depth in range(len(parts) + 1)}


def alike(found: Any, wanted: Any) -> bool:
    """Bit-identical containers of tensors."""
    if isinstance(wanted, Tensor):
        return isinstance(found, Tensor) and torch.equal(found, wanted.detach())
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(alike(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return bool(found == wanted)
