"""Families of networks: built small with seeded weights, explained without a word, then by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from camkit_core import ChannelsFirst, ChannelsLast, Explanation, Reshape, explain
from camkit_tasks import Tokens

GRADIENT, EIGEN, ABLATION = "gradcam", "eigencam", "ablationcam"
FIRST, LAST = ChannelsFirst(), ChannelsLast()
Size = tuple[int, ...]


def tokens(prefix: int, *grid: int) -> Tokens:
    """`[N, prefix + product of the grid, C]`."""
    return Tokens(prefix=prefix, grid=grid)


@dataclass(frozen=True)
class Family:
    """A network of the real class, and the layer and layout that a person would give by hand."""

    name: str
    build: Callable[[], nn.Module]
    layer: str
    reshape: Reshape = FIRST
    size: Size = (64, 64)
    ablation: bool = True  # False where Ablation-CAM takes too long
    slow: bool = False
    words: Mapping[str, Any] = field(default_factory=dict)  # what has to be said besides
    seed: int = 0  # one with which no map is negative all over

    def model(self) -> nn.Module:
        """With seeded weights, awake."""
        return seeded(self.build, self.pictures(), self.seed)

    def pictures(self) -> Tensor:
        """Two different ones."""
        return pictures(*self.size)


def each(families: Iterable[Family]) -> pytest.MarkDecorator:
    """A test of every family, by name and size."""
    rows = [
        pytest.param(
            one,
            id=f"{one.name}-{'x'.join(map(str, one.size))}",
            marks=[pytest.mark.slow] if one.slow else [],
        )
        for one in families
    ]
    return pytest.mark.parametrize("family", rows)


def pictures(*size: int) -> Tensor:
    """`[2, 3, *size]`: two different ones, smooth with some noise."""
    generator = torch.Generator().manual_seed(1)
    coarse = [max(side // 8, 2) for side in size]
    smooth = torch.randn(2, 3, *coarse, generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    smooth = nn.functional.interpolate(smooth, size=size, mode=mode)
    return smooth + 0.3 * torch.randn(smooth.shape, generator=generator)


def seeded(build: Callable[[], nn.Module], x: Tensor, seed: int = 0) -> nn.Module:
    """The network in eval mode; weights that start at zero, and so stop gradients, get a value."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = build()
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return calibrated(net, x)


@torch.no_grad()
def calibrated(net: nn.Module, x: Tensor) -> nn.Module:
    """Batch norms that normalize by these pictures, without which random features fade away."""
    net.eval()
    norms = [one for one in net.modules() if isinstance(one, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the runs, of which there is one
        norm.train()
    if norms:
        net(x)
    return net.eval()


def by_hand(reshape: Reshape) -> Callable[[Any], Tensor]:
    """The reading of `reshape`, in the words a user would write."""
    if isinstance(reshape, ChannelsLast):
        return lambda out: _tensor(out).movedim(-1, 1)
    if isinstance(reshape, Tokens):
        assert reshape.grid is not None
        grid, prefix = reshape.grid, reshape.prefix or 0
        return lambda out: _tensor(out)[:, prefix:].unflatten(1, grid).movedim(-1, 1)
    return _tensor


def _tensor(out: Any) -> Tensor:
    """A layer's output, or what its container calls `last_hidden_state`, or the first entry."""
    if isinstance(out, Tensor):
        return out
    found = out["last_hidden_state"] if "last_hidden_state" in out else out[0]
    assert isinstance(found, Tensor)
    return found


def telling(found: Explanation, x: Tensor) -> None:
    """For every image of `x` a map of its size that shows something."""
    assert found.maps.shape == (len(x), *x.shape[2:])
    for one in (found.maps, *found.raw.values()):
        flat = one.flatten(1)
        assert torch.isfinite(flat).all()
        assert (flat.std(1) > 1e-9 + 1e-6 * flat.abs().amax(1)).all(), "constant"
    assert (found.maps.flatten(1).amax(1) > 0.5).all()
    assert "no_localisation" not in {issue.code for issue in found.issues}


def check(family: Family) -> None:
    """Two images by a method of every kind, and one image."""
    model, x = family.model(), family.pictures()
    methods = (GRADIENT, EIGEN, ABLATION) if family.ablation else (GRADIENT, EIGEN)
    agree(model, x, family.layer, family.reshape, methods, **family.words)
    agree(model, x[:1], family.layer, family.reshape, [GRADIENT], **family.words)


def agree(
    model: Any,
    inputs: Any,
    layer: str,
    reshape: Reshape = FIRST,
    methods: Sequence[str] = (GRADIENT, EIGEN, ABLATION),
    **words: Any,
) -> None:
    """Nothing but model and inputs, against layer and layout by hand."""
    plain, shapes = by_hand(reshape), []

    def read(out: Any) -> Tensor:
        picture = plain(out)
        shapes.append(picture.shape[2:])
        return picture

    for method in methods:
        if method == ABLATION:  # puts maps back into the layer, which a plain function cannot
            found = same(model, inputs, method, layer, reshape, batch_size=16, **words)
            near(explain(model, inputs, method, **words), found)
        else:
            found = same(model, inputs, method, layer, read, **words)
            assert found.raw[layer].shape[1:] == shapes[-1]


def same(
    model: Any, inputs: Any, method: str, layer: str, reshape: Any, **words: Any
) -> Explanation:
    """What is found without them is what is found with this layer and layout, bit for bit."""
    found = explain(model, inputs, method, **words)
    assert found.provenance.layers == (layer,)
    telling(found, inputs if isinstance(inputs, Tensor) else inputs["pixel_values"])
    wanted = explain(model, inputs, method, layers=layer, reshape=reshape, **words)
    assert torch.equal(found.raw[layer], wanted.raw[layer])
    assert torch.equal(found.maps, wanted.maps)
    return found


def near(found: Explanation, wanted: Explanation) -> None:
    """The same but for rounding: another number of rows at a time sums in another order."""
    for layer, raw in wanted.raw.items():
        scale = float(raw.abs().max())
        torch.testing.assert_close(found.raw[layer], raw, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(found.maps, wanted.maps, rtol=0, atol=1e-4)
