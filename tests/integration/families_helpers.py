"""Families of networks: built small with seeded weights, explained without a word, then by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import ChannelsFirst, ChannelsLast, Explanation, Reshape, explain
from camkit_tasks import Tokens

Size = tuple[int, int]


def seeded(build: Callable[[], nn.Module], size: Size) -> nn.Module:
    """The network in eval mode, awake.

    Weights that start at zero, and so stop gradients, get a value; batch norms get the statistics
    of the pictures, without which random activations fade away from layer to layer.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = build()
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
        norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d | nn.BatchNorm1d)]
        for norm in norms:
            norm.momentum = None
        if norms:
            net.train()(pictures(size))
    return net.eval()


def pictures(size: Size) -> Tensor:
    """`[2, 3, H, W]`: two different ones."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *size, generator=generator)


def tokens(prefix: int, grid: Size) -> Reshape:
    """`[N, T, C]` by hand."""
    return Tokens(prefix=prefix, grid=grid)


def to_picture(reshape: Reshape) -> Callable[[Any], Tensor]:
    """The reading of `reshape`, in the words a user would write."""
    if isinstance(reshape, ChannelsLast):
        return lambda out: _tensor(out).permute(0, 3, 1, 2)
    if isinstance(reshape, Tokens):
        assert reshape.grid is not None
        (height, width), prefix = reshape.grid, reshape.prefix

        def fold(out: Any) -> Tensor:
            found = _tensor(out)
            kept = found[:, prefix : prefix + height * width]
            return kept.reshape(len(found), height, width, -1).movedim(-1, 1)

        return fold
    return _tensor


def _tensor(out: Any) -> Tensor:
    """A layer's output, or what its container calls `last_hidden_state`, or the first entry."""
    if isinstance(out, Tensor):
        return out
    found = out["last_hidden_state"] if "last_hidden_state" in out else out[0]
    assert isinstance(found, Tensor)
    return found


@dataclass(frozen=True)
class Family:
    """One network, what it is fed, and what is explained by default."""

    name: str
    build: Callable[[], nn.Module]
    layer: str
    reshape: Reshape
    size: Size = (64, 64)
    ablation: bool = True  # whether Ablation-CAM is cheap
    target: Any = None

    def network(self) -> nn.Module:
        """With seeded weights."""
        return seeded(self.build, self.size)


FIRST, LAST = ChannelsFirst(), ChannelsLast()


def telling(found: Explanation, layer: str, size: Size) -> None:
    """The maps have the image's size, and show something for every image."""
    assert found.maps.shape[1:] == size
    assert torch.isfinite(found.maps).all()
    for raw in found.raw[layer]:
        assert raw.std() > 1e-9 + 1e-6 * raw.abs().max()
    assert "no_localisation" not in {issue.code for issue in found.issues}


def check_family(family: Family) -> None:
    """Defaults against layer and reshape by hand, by a method of every kind."""
    net, x = family.network(), pictures(family.size)
    by_hand = to_picture(family.reshape)
    for method in ("gradcam", "eigencam"):
        found = explain(net, x, method, family.target)
        assert found.provenance.layers == (family.layer,)
        telling(found, family.layer, family.size)
        wanted = explain(net, x, method, family.target, family.layer, reshape=by_hand)
        assert torch.equal(found.raw[family.layer], wanted.raw[family.layer])
        assert torch.equal(found.maps, wanted.maps)
    if family.ablation:
        check_ablation(family, net, x)


def check_ablation(family: Family, net: nn.Module, x: Tensor) -> None:
    """Ablation-CAM puts maps back into the layer, for which a two-way reshape is needed."""
    chunk = {"batch_size": 16}  # another number of rows may sum in another order
    found = explain(net, x, "ablationcam", family.target, **chunk)
    telling(found, family.layer, family.size)
    given = {"layers": family.layer, "reshape": family.reshape, **chunk}
    wanted = explain(net, x, "ablationcam", family.target, **given)
    assert torch.equal(found.maps, wanted.maps)
