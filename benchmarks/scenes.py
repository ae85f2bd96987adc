"""Networks with seeded random weights, and pictures on which their maps are far from zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.rows import Row

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scene:
    """What every contender gets: the same model, layer, images and classes.

    Attributes:
        reshape: from the layer's output to `[N, C, H, W]`, None where that is what it returns.
        classes: of every image, the class that counts as the model's answer.
    """

    row: Row
    model: nn.Module
    layer: nn.Module
    reshape: Reshape | None
    images: Tensor
    classes: list[int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.row.size, self.row.size

    def forward(self) -> Tensor:
        """The unit: one plain forward pass."""
        with torch.inference_mode():
            scores: Tensor = self.model(self.images)
            return scores

    def clean(self) -> None:
        """Drop the parameter gradients that some peers leave behind."""
        for parameter in self.model.parameters():
            parameter.grad = None


def build(row: Row, device: str, seed: int) -> Scene:
    """The scene of a row, on a device."""
    import torchvision

    torch.manual_seed(seed)
    model = torchvision.models.get_model(row.model, weights=None)
    # Some networks start with a classifier of zeros, which no gradient gets through.
    nn.init.normal_(_classifier(model).weight, std=0.02)
    calibrate(model, seed)
    images = pictures(row.batch, row.size, seed)
    return arrange(row, model.to(device), images.to(device))


def arrange(row: Row, model: nn.Module, images: Tensor) -> Scene:
    """A scene from a model and images at hand; the classifier is rescaled, the mode is eval."""
    model.eval()
    layer = model.get_submodule(row.layer)
    _rescale(model, layer, images)
    with torch.inference_mode():
        classes = model(images).argmax(1).tolist()
    return Scene(row, model, layer, reshape_of(row.tokens, layer), images, classes)


def reshape_of(tokens: str, layer: nn.Module) -> Reshape | None:
    """How `[N, C, H, W]` is made of what a layer returns.

    Raises:
        ValueError: an unknown layout.
    """
    if tokens == "":
        return None
    if tokens == "nhwc":
        return lambda output: output.permute(0, 3, 1, 2)
    if tokens == "cls":
        return _drop_class_token
    raise ValueError(f"unknown layout {tokens!r} of {type(layer).__name__}")


def _drop_class_token(output: Tensor) -> Tensor:
    places = output[:, 1:]
    side = round(places.shape[1] ** 0.5)
    return places.transpose(1, 2).reshape(len(output), -1, side, side)


def pictures(n: int, size: int, seed: int) -> Tensor:
    """Smooth color fields with a bright disc and some noise, `[n, 3, size, size]`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    field = interpolate(normal(n, 3, 6, 6), size=(size, size), mode="bicubic")
    axis = torch.linspace(-1, 1, size)
    center = normal(n, 2, 1, 1) / 3
    distance = (axis[:, None] - center[:, 0]) ** 2 + (axis - center[:, 1]) ** 2
    disc = (distance < 0.1).float()[:, None]
    return field + 2 * disc * normal(n, 3, 1, 1).sign() + 0.2 * normal(n, 3, size, size)


def calibrate(model: nn.Module, seed: int, batches: int = 3, size: int = 128) -> None:
    """Give the batch normalizations the statistics of pictures, by passes in train mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for batch in range(batches):
            model(pictures(4, size, seed + 100 + batch))


def _rescale(model: nn.Module, layer: nn.Module, images: Tensor) -> None:
    """Gradients around 1 at the layer: far above the absolute constants some peers add."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        score = model(images).amax(1).sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    typical = gradient[gradient != 0].abs().mean()
    with torch.no_grad():
        _classifier(model).weight.div_(typical)


def _classifier(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
