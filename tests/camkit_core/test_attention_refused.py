"""Attention that cannot be opened is refused with what was found, never shown as nothing."""

from __future__ import annotations

import pytest
import torch
from core_proof.attention_nets import HEADS, WIDTH, Vit, grid, pictures
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images
from core_proof.snapshot import unchanged
from torch import nn
from torch.nn import functional as F

from camkit_core import CapabilityError, CaptureError, LayoutError, Need, TargetError, explain

BOTH = Need.ATTENTION | Need.GRADIENTS


def method(needs=BOTH):
    return spy(lambda c: c.attention[-1].weights.mean((1, 2))[:, c.grid], needs)


def ask(net, x, needs=BOTH, target=1, reshape=None):
    words = {"reshape": reshape or grid(), "registry": registry()}
    return explain(net, x, method(needs), target, **words)


def refused(net, error, words, x=None, **options):
    x = pictures() if x is None else x
    for needs in (BOTH, Need.ATTENTION):
        with unchanged(net, x), pytest.raises(error, match=words):
            ask(net, x, needs, **options)


def test_a_network_without_attention():
    refused(Chain(), CapabilityError, "no attention ran in this Chain.*no module", images())


def test_a_module_called_attention_without_a_softmax_is_named():
    class SigmoidAttention(nn.Module):
        def forward(self, x):
            return x * x.mean(1, keepdim=True).sigmoid()

    net = nn.Sequential(nn.Conv2d(3, 4, 1), SigmoidAttention(), nn.Flatten(), nn.Linear(240, 5))
    refused(net.double(), CapabilityError, r"it has 1 \(SigmoidAttention\), but no softmax")


def test_a_softmax_that_weighs_no_values_is_no_attention():
    class Spatial(nn.Module):
        """A softmax over places, and one over classes."""

        def forward(self, x):
            return (x * x.flatten(2).softmax(-1).reshape(x.shape)).sum((2, 3)).softmax(1)

    net = nn.Sequential(nn.Conv2d(3, 5, 1), Spatial()).double()
    refused(net, CapabilityError, "no attention ran in this Sequential")


def test_what_differs_from_the_kernel(monkeypatch):
    """The model's kernel is believed, not what was written out."""
    from camkit_core import attention

    net, x = Vit(), pictures()
    plain = attention._softmax
    monkeypatch.setattr(attention, "_softmax", lambda logits: plain(logits * 1.001))
    refused(net, CaptureError, "'blocks.0.attn' cannot be opened.*differs.*eager", x)
    monkeypatch.setattr(attention, "_softmax", lambda logits: plain(logits).roll(1, -1))
    refused(net.float(), CaptureError, "'blocks.0.attn' cannot be opened", x.float())


def test_a_custom_operator():
    @torch.library.custom_op("proof::flash_attention", mutates_args=())
    def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    refused(Vit(flash), CapabilityError, "flash_attention.* in 'blocks.0.attn'.*plain attention")
    mixed = Vit()
    mixed.blocks[1].attn.attend = torch.ops.proof.flash_attention
    refused(mixed, CapabilityError, "flash_attention.* in 'blocks.1.attn'")


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flexible_attention():
    from torch.nn.attention.flex_attention import flex_attention

    refused(
        Vit(flex_attention).float(), CapabilityError, "flex_attention in 'bl", pictures().float()
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_torchscript_is_refused_before_it_runs():
    class Fused(nn.Module):
        def forward(self, x):
            return x + F.scaled_dot_product_attention(x, x, x)

    net = Vit()
    net.blocks[1] = torch.jit.script(Fused())
    net.patch.register_forward_hook(lambda m, a, o: pytest.fail("the model ran"))
    with pytest.raises(CapabilityError, match=r"blocks\.1 is compiled TorchScript with attention"):
        ask(net, pictures())


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_torchscript_without_attention_is_no_obstacle():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    net, x = Vit(), pictures()
    net.patch = nn.Sequential(net.patch, torch.jit.script(Doubled().eval()))
    twin = Vit()
    twin.patch = nn.Sequential(twin.patch, Doubled())
    assert torch.equal(ask(net, x).raw["input"], ask(twin, x).raw["input"])


def test_talking_heads():
    class Talk(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(HEADS, HEADS).double()

        def __call__(self, q, k, v):
            weights = (q @ k.mT).softmax(-1)
            return self.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v

    refused(Vit(Talk()), CapabilityError, r"softmax \[2, 2, 16, 16\] in 'blocks.0.attn'.*talking")


def test_weights_that_are_overwritten():
    def clipped(q, k, v):
        weights = (q @ k.mT).softmax(-1)
        found = weights @ v
        weights.detach().mul_(2)
        return found

    refused(Vit(clipped), CaptureError, "overwrites the attention weights of 'blocks.0.attn'")


def test_tokens_that_are_overwritten():
    """Weights are still known; what needs the tokens themselves says why it cannot have them."""

    class Inplace(Vit):
        def __init__(self, which):
            super().__init__()
            self.which = which

        def forward(self, x):
            tokens = self.embed(x)
            for index, block in enumerate(self.blocks):
                tokens = block(tokens)
                if index == self.which:
                    tokens.mul_(1.5)
            return self.finish(tokens)

    seen, x = [], pictures()
    look = spy(
        lambda c: seen.append(c.attention) or c.attention[0].gradients[:, 0, 0][:, c.grid], BOTH
    )
    explain(Inplace(0), x, look, 1, reshape=grid(), registry=registry())
    assert [one.tokens is None for one in seen[0]] == [True, False]
    assert [one.token_gradients is None for one in seen[0]] == [True, False]
    for which, read in ((1, lambda c: c.readers), (0, lambda c: c.exit_gradients(0, lambda t: t))):
        asking = spy(read, BOTH)
        with pytest.raises(CaptureError, match=f"overwrites the tokens that 'blocks.{which}'"):
            explain(Inplace(which), x, asking, 1, reshape=grid(), registry=registry())


def test_dropout_that_never_stops():
    def drop(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)

    refused(Vit(drop), CapabilityError, r"'blocks.0.attn' drops.*dropout_p=0\.3")


def test_windows():
    def windows(q, k, v):
        parts = [t.unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1) for t in (q, k, v)]
        found = F.scaled_dot_product_attention(*parts)
        return found.unflatten(0, (-1, 4)).transpose(1, 2).flatten(2, 3)

    refused(Vit(windows), CapabilityError, r"in groups \[8, 2, 4, 4\] for 2 image.*windows")


def test_tokens_that_form_no_picture():
    def ask_for_help(net, x):
        return explain(net, x, method(), 1, registry=registry())

    with pytest.raises(LayoutError, match=r"'blocks.1' returns \[2, 16, 8\].*tokens"):
        ask_for_help(Vit(), pictures())
    mixing = Mixed()
    refused(Vit(), LayoutError, "'blocks.1' does not select tokens", reshape=mixing)


class Mixed:
    """Averages neighbours, which no reshape may do."""

    def to_spatial(self, output):
        picture = output[:, 1:].transpose(1, 2).unflatten(2, (3, 5))
        return (picture + picture.roll(output.shape[2], 1) * 2).cumsum(1)

    def from_spatial(self, maps, like):
        return like


def test_a_score_that_does_not_reach_the_attention():
    class Cut(Vit):
        def finish(self, tokens):
            return super().finish(tokens.detach())

    net, x = Cut(), pictures()
    with pytest.raises(TargetError, match="not connected to the attention of any block"):
        ask(net.requires_grad_(False), x)


def test_attention_between_other_things_than_tokens():
    class Pooled(nn.Module):
        """One query for all positions, and nothing around it returns them."""

        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, WIDTH, 2, 2), nn.Linear(WIDTH, 5)
            self.query = nn.Parameter(torch.ones(1, 1, 1, WIDTH))

        def forward(self, x):
            k = self.stem(x).flatten(2).mT[:, None]
            q = self.query.expand(len(x), -1, -1, -1)
            return self.head(F.scaled_dot_product_attention(q, k, k)[:, 0, 0])

    refused(Pooled().double(), CapabilityError, r"none of 1 attentions.*\[2, 1, 1, 15\]")
