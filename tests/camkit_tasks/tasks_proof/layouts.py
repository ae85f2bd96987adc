"""For the tests of layouts: outputs of layers, and whether maps show changes where they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from camkit_core import LayoutError, Registry
from camkit_core.reshapes import find_reshape
from camkit_tasks import plugin

REGISTRY = Registry(discover=False, plugins=[("camkit-tasks", plugin)])


def output_of(model: nn.Module, name: str, image: Tensor) -> Tensor:
    kept: list[Tensor] = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        model.eval()(image)
    handle.remove()
    found = kept[0]
    return next(part for part in found if part is not None) if isinstance(found, tuple) else found


def found_for(model: nn.Module, name: str, image: Tensor):
    """What core and this package find together; None where they refuse to say."""
    layer, output = model.get_submodule(name), output_of(model, name, image)
    try:
        return find_reshape(REGISTRY, model, name, layer, output, image)
    except LayoutError:
        return None


def where_it_changes(model: nn.Module, name: str, image: Tensor, spot: tuple[int, int]):
    """Relative position of the largest change of the map when the image changes at `spot`."""
    changed = image.clone()
    rows, columns = image.shape[2] // 8, image.shape[3] // 8
    top, left = spot[0] * rows, spot[1] * columns
    changed[:, :, top : top + rows, left : left + columns] += 5.0
    reshape = found_for(model, name, image)
    maps = [reshape.to_spatial(output_of(model, name, x)) for x in (image, changed)]
    change = (maps[1] - maps[0]).abs().sum(1)[0]
    assert change.max() > 1e-3
    row, column = divmod(int(change.argmax()), change.shape[1])
    return (row + 0.5) / change.shape[0], (column + 0.5) / change.shape[1]


def assert_finds_the_spot(model: nn.Module, name: str, image: Tensor) -> None:
    for spot in ((1, 6), (6, 2)):
        row, column = where_it_changes(model, name, image, spot)
        assert abs(row - (spot[0] + 0.5) / 8) < 0.13, (name, spot, row)
        assert abs(column - (spot[1] + 0.5) / 8) < 0.13, (name, spot, column)


def image(height: int = 32, width: int = 32, images: int = 2) -> Tensor:
    return torch.randn(images, 3, height, width, generator=torch.Generator().manual_seed(1))


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build().eval()


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm1(x))
