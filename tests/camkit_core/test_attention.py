"""Attention is captured with its gradients however the model writes it."""

from __future__ import annotations

import math

import pytest
import torch
from core_proof.attention_nets import (
    FORMS,
    HEADS,
    WIDTH,
    Attention,
    Block,
    Vit,
    grid,
    oracle,
    pictures,
    written,
)
from core_proof.checks import close, same, telling
from core_proof.methods import GradCAM, registry, spy
from torch import nn
from torch.nn import functional as F

from camkit_core import CapabilityError, ClassTarget, Need, compare, explain

BOTH = Need.ATTENTION | Need.GRADIENTS


def look(net, x, needs=BOTH, target=1, reshape=None, read=lambda capture: capture.attention):
    """What a method sees, beside a map of the last block's weights."""
    seen = []

    def method(capture):
        seen.append(read(capture))
        return capture.attention[-1].weights.mean((1, 2))[:, capture.grid]

    explain(net, x, spy(method, needs), target, reshape=reshape or grid(), registry=registry())
    return seen[0]


def agrees(found, wanted, tolerance=1e-11):
    """Everything the oracle has."""
    assert len(found) == len(wanted) > 1
    for one, other in zip(found, wanted, strict=True):
        for name in other.__dataclass_fields__:
            if name == "queries":  # known up to the factor that the model applies
                close(F.normalize(one.queries, dim=-1), F.normalize(other.queries, dim=-1))
            else:
                close(getattr(one, name), getattr(other, name), tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_attention_shows_the_same(form):
    net, x = Vit(FORMS[form]), pictures()
    found = look(net, x)
    agrees(found, oracle(net, x, 1))
    assert [one.layer for one in found] == ["blocks.0.attn", "blocks.1.attn"]
    assert [one.block for one in found] == ["blocks.0", "blocks.1"]


class Multi(nn.Module):
    """A block around PyTorch's own attention."""

    def __init__(self, need_weights, batch_first=True, mask=None):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        self.words = {"need_weights": need_weights, "attn_mask": mask}

    def forward(self, x):
        return x + self.attention(x, x, x, **self.words)[0]


class Sideways(nn.Module):
    """Blocks that work on `[T, N, C]`."""

    def __init__(self, *blocks):
        super().__init__()
        self.rows = nn.ModuleList(blocks)

    def forward(self, x):
        x = x.transpose(0, 1)
        for block in self.rows:
            x = block(x)
        return x.transpose(0, 1)

    def children(self):
        return iter(self.rows)


def layers(batch_first, norm_first):
    words = {"batch_first": batch_first, "norm_first": norm_first, "dim_feedforward": 16}
    return [nn.TransformerEncoderLayer(WIDTH, HEADS, **words) for _ in range(2)]


MULTI = {
    "fused": lambda: nn.Sequential(Multi(False), Multi(False)),
    "with weights": lambda: nn.Sequential(Multi(True), Multi(True)),
    "batch second": lambda: Sideways(Multi(False, False), Multi(True, False)),
    "encoder layers": lambda: nn.Sequential(*layers(True, True)),
    "encoder layers, batch second": lambda: Sideways(*layers(False, False)),
}


@pytest.mark.parametrize("kind", MULTI)
@pytest.mark.parametrize("images", [1, 2])
def test_multihead_attention_is_opened_on_its_fast_paths_too(kind, images):
    net, x = Vit(blocks=MULTI[kind]()), pictures(images)
    agrees(look(net, x), oracle(net, x, 1))


def test_as_many_images_as_tokens_do_not_swap_places():
    for kind in ("encoder layers", "encoder layers, batch second"):
        net, x = Vit(blocks=MULTI[kind]()), pictures(16)
        agrees(look(net, x), oracle(net, x, 1))


def test_the_fast_path_would_have_hidden_it():
    """Without camkit this model runs a kernel that no Python function is asked for."""
    net, called = Vit(blocks=MULTI["encoder layers"]()), []
    before = torch._transformer_encoder_layer_fwd
    try:
        torch._transformer_encoder_layer_fwd = lambda *a: called.append(1) or before(*a)
        with torch.no_grad():
            net(pictures())
        assert called
        called.clear()
        look(net, pictures(), Need.ATTENTION)
        assert not called
    finally:
        torch._transformer_encoder_layer_fwd = before


def _bias(seed=0):
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SEEN = torch.ones(16, 16).tril(3).bool()
MASKED = {
    "boolean": ({"attn_mask": SEEN}, lambda s: s.masked_fill(~SEEN, -math.inf)),
    "additive": ({"attn_mask": _bias()}, lambda s: s + _bias()),
    "causal": (
        {"is_causal": True},
        lambda s: s.masked_fill(~torch.ones(16, 16).tril().bool(), -math.inf),
    ),
    "scaled": ({"scale": 0.9}, lambda s: s * 0.9 * math.sqrt(WIDTH / HEADS)),
}


@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize("needs", [BOTH, Need.ATTENTION])
def test_masks_and_scales_are_those_of_the_kernel(kind, needs):
    words, change = MASKED[kind]
    net, x = Vit(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **words)), pictures()
    for one in look(net, x, needs):
        scores = one.queries @ one.keys.transpose(-2, -1) / math.sqrt(WIDTH / HEADS)
        close(one.weights, change(scores).softmax(-1))
        close(one.output, one.weights @ one.values)


def test_a_token_that_may_look_nowhere_has_no_weights():
    seen = torch.ones(16, 16, dtype=torch.bool)
    seen[3] = False
    words = {"attn_mask": seen}
    net, x = Vit(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **words)), pictures()
    (first, second) = look(net, x)
    assert not first.weights[:, :, 3].any()
    assert bool(torch.isfinite(first.gradients).all())
    close(second.weights.sum(-1)[..., :3].cumsum(-1), torch.ones(2, 2, 3).cumsum(-1).double())


def test_grouped_heads_are_shown_once_for_every_query_head():
    def grouped(q, k, v):
        return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)

    def repeated(q, k, v):
        return F.scaled_dot_product_attention(q, k[:, [0, 0]], v[:, [0, 0]])

    x = pictures()
    for one, other in zip(look(Vit(grouped), x), look(Vit(repeated), x), strict=True):
        for name in ("weights", "gradients", "keys", "values", "token_gradients"):
            close(getattr(one, name), getattr(other, name))


def test_without_gradients_nothing_is_differentiated():
    net, x = Vit(), pictures()
    found, wanted = look(net, x, Need.ATTENTION), oracle(net, x, 1)
    for one, other in zip(found, wanted, strict=True):
        close(one.weights, other.weights)
        close(one.tokens, other.tokens)
        assert one.gradients is one.token_gradients is one.output_gradients is None


def test_the_model_answers_as_it_does_alone():
    for form in FORMS.values():
        net, x = Vit(form), pictures()
        for needs in (BOTH, Need.ATTENTION):
            method = spy(lambda c: c.attention[0].weights.mean((1, 2))[:, c.grid], needs)
            found = explain(net, x, method, 1, reshape=grid(), registry=registry())
            close(found.output, net(x).detach(), 1e-13)


def test_targets_are_kept_apart_and_share_one_forward():
    net, x = Vit(), pictures()

    def method(capture):
        return capture.attention[0].gradients.sum((1, 2))[:, capture.grid]

    methods = [spy(method, BOTH), GradCAM(), spy(method, BOTH, "again")]
    targets = [1, 3, [0, 2]]
    found = compare(net, x, methods, targets, "blocks.0", reshape=grid(), registry=registry())
    for position, target in enumerate(targets):
        for one in methods:
            words = {"reshape": grid(), "registry": registry()}
            alone = explain(net, x, one, target, "blocks.0", **words)
            (wanted,), (map_,) = alone.raw.values(), found[one, position].raw.values()
            close(map_, wanted)
    provenance = found[methods[0], 0].provenance
    assert provenance.forwards == 1
    assert provenance.backwards <= 3


def test_a_module_that_runs_twice_is_named_by_call():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(F.scaled_dot_product_attention)

        def forward(self, x):
            return self.block(self.block(x))

        def children(self):
            return iter([self.block])

    net, x = Vit(blocks=Shared()), pictures()
    found = look(net, x)
    agrees(found, oracle(net, x, 1))
    assert [one.layer for one in found] == ["blocks.block.attn#0", "blocks.block.attn#1"]


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("needs", [BOTH, Need.ATTENTION])
def test_the_score_tells_which_tokens_it_reads(pool, prefix, needs):
    """Three registers and an average must not be read as a class token and two registers."""
    if pool == "first" and not prefix:
        return
    net = Vit(prefix=prefix, pool=pool)
    found = look(net, pictures(), needs, reshape=grid(prefix), read=lambda c: c.readers)
    wanted = [0] if pool == "first" else list(range(prefix, prefix + 15))
    assert found.nonzero().flatten().tolist() == wanted


def test_without_a_score_the_first_token_in_no_picture_is_read():
    class Embeds(Vit):
        def finish(self, tokens):
            return {"tokens": self.norm(tokens)}

    method = spy(
        lambda c: c.attention[-1].weights.mean(1)[:, c.readers].mean(1)[:, c.grid], Need.ATTENTION
    )
    for prefix, rows in ((1, slice(0, 1)), (0, slice(None))):
        net, x = Embeds(prefix=prefix), pictures()
        (found,) = explain(net, x, method, reshape=grid(prefix), registry=registry()).raw.values()
        (weights,) = (one.weights for one in look_blind(net, x, prefix)[-1:])
        close(found, weights.mean(1)[:, rows].mean(1)[:, prefix:].unflatten(1, (3, 5)))


def look_blind(net, x, prefix):
    seen = []

    def method(capture):
        seen.extend(capture.attention)
        return capture.attention[0].weights.mean((1, 2))[:, capture.grid]

    explain(net, x, spy(method, Need.ATTENTION), reshape=grid(prefix), registry=registry())
    return seen


class Maps(nn.Module):
    """Attention between the positions of `[N, C, *S]`, or `[N, *S, C]`."""

    def __init__(self, last):
        super().__init__()
        self.last, self.attn = last, Attention(F.scaled_dot_product_attention)

    def forward(self, x):
        if self.last:
            return x + self.attn(x.flatten(1, -2)).reshape(x.shape)
        tokens = x.flatten(2).transpose(1, 2)
        return x + self.attn(tokens).transpose(1, 2).reshape(x.shape)


class Hybrid(nn.Module):
    """Attention on maps, between a convolution and pooling."""

    def __init__(self, last, dims=2):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.last, self.stem = last, conv(3, WIDTH, 1)
        self.blocks = nn.Sequential(Maps(last), Maps(last))
        self.head = nn.Linear(WIDTH, 5)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.double().parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.5 * drawn
        self.eval()

    def forward(self, x):
        x = self.stem(x)
        x = self.blocks(x.movedim(1, -1)).movedim(-1, 1) if self.last else self.blocks(x)
        return self.head(x.flatten(2).mean(2))


@pytest.mark.parametrize("size", [(31,), (5, 8), (8, 5), (8, 8), (3, 4, 5)])
def test_attention_on_maps_has_its_places_by_itself(size):
    """Also where the channels are as many as a side."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    maps = []
    for last in (False, True):
        method = spy(
            lambda c: (c.attention[0].token_gradients * c.attention[0].tokens).sum(2)[:, c.grid],
            BOTH,
        )
        # As many channels as a side, or a signal that might have a class token: it must be said.
        said = size == (8, 8) or (last and len(size) == 1)
        words = {"reshape": "channels_last" if last else "channels_first"} if said else {}
        found = explain(Hybrid(last, len(size)), x, method, 2, registry=registry(), **words)
        maps.append(telling(found.raw["input"]))
        assert maps[-1].shape == (2, *size)
    close(maps[1], maps[0])


def test_second_order_goes_through_fused_attention():
    """The Hessian of the score at tokens, against differences of gradients."""
    net, x = Vit(), pictures()
    v = torch.randn(2, WIDTH, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    needs = Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER
    seen = []
    method = spy(lambda c: seen.append(c.hvp(v)) or c.hvp(v).sum(1), needs)
    explain(net, x, method, 1, "blocks.0", reshape=grid(), registry=registry())

    def slope(shift):
        tokens = net.blocks[0](net.embed(x)).detach()
        moved = tokens + shift * torch.cat([0 * tokens[:, :1], v.flatten(2).mT], 1)
        moved.requires_grad_()
        score = net.finish(net.blocks[1](moved))[:, 1].sum()
        return torch.autograd.grad(score, moved)[0][:, 1:].mT.unflatten(2, (3, 5))

    step = 1e-5
    close(seen[0], (slope(step) - slope(-step)) / (2 * step), 1e-7)


def test_other_images_have_attention_too():
    net, x, other = Vit(), pictures(), pictures(seed=4)
    seen = []

    def method(capture):
        seen.append(capture.at(other))
        return seen[-1].attention[0].gradients.mean((1, 2))[:, capture.grid]

    needs = BOTH | Need.RECAPTURE
    found = explain(net, x, spy(method, needs), 1, reshape=grid(), registry=registry())
    wanted = oracle(net, other, 1)[0].gradients.mean((1, 2))[:, 1:].unflatten(1, (3, 5))
    close(found.raw["input"], wanted)


def test_gradients_survive_for_methods_that_run_the_model_again():
    net, x = Vit(), pictures()

    def method(capture):
        return capture.attention[0].gradients.mean((1, 2))[:, capture.grid]

    late = spy(method, BOTH | Need.SCORES, "late")
    targets = [0, 1, 2]
    found = compare(net, x, [late, GradCAM()], targets, reshape=grid(), registry=registry())
    for target in targets:
        wanted = oracle(net, x, target)[0].gradients.mean((1, 2))[:, 1:].unflatten(1, (3, 5))
        close(found[late, target].raw["input"], wanted)


# -- the score of a block's own tokens ----------------------------------------------------------


def mean_token(tokens):
    return tokens.mean(1, keepdim=True).expand_as(tokens)


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("change", [lambda tokens: tokens, mean_token])
def test_a_block_can_be_scored_as_if_it_were_the_last(pool, block, change):
    net, x = Vit(pool=pool), pictures()
    found = look(net, x, read=lambda capture: capture.exit_gradients(block, change))
    weights = []

    def attend(q, k, v):
        weights.append((q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1))
        return weights[-1] @ v

    for one in net.blocks:
        one.attn.attend = attend
    tokens = net.blocks[: block + 1](net.embed(x))
    score = net.finish(change(tokens))[:, 1].sum()
    (wanted,) = torch.autograd.grad(score, weights[-1])
    close(found, wanted)


def test_a_model_that_reads_its_blocks_elsewhere_cannot_be_cut():
    class Noting(nn.Module):
        def __init__(self, box):
            super().__init__()
            self.box = box

        def forward(self, x):
            self.box.append(x)
            return x

    class Deep(Vit):
        """Reads something that a block leaves elsewhere than in what it returns."""

        def forward(self, x):
            self.box.clear()
            found = super().forward(x)
            return found + sum(one.mean((1, 2))[:, None] for one in self.box)

    net = Deep()
    net.box = []
    net.blocks[0].mlp.append(Noting(net.box))
    with pytest.raises(CapabilityError, match=r"cannot be cut behind its last block 'blocks\.1'"):
        look(net, pictures(), read=lambda capture: capture.exit_gradients(0, mean_token))


# -- circumstances --------------------------------------------------------------------------------


def test_precision_modes_and_frozen_models_give_the_plain_answer():
    net, x = Vit(), pictures()
    wanted = oracle(net, x, 1)
    agrees(look(Vit().requires_grad_(False), x), wanted)
    agrees(look(Vit().train(), x), wanted)
    with torch.no_grad():
        agrees(look(net, x), wanted)
    with torch.inference_mode():
        found = look(net, x.clone())
    agrees(found, wanted)
    for one, other in zip(look(Vit().float(), x.float()), wanted, strict=True):
        close(one.gradients, other.gradients, 1e-4)
    for one, other in zip(look(Vit().bfloat16(), x.bfloat16()), wanted, strict=True):
        assert one.weights.dtype == one.gradients.dtype == torch.float32
        close(one.weights, other.weights, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = look(Vit().float(), x.float())
    for one, other in zip(found, wanted, strict=True):
        close(one.gradients, other.gradients, 0.2)


def test_a_model_that_switches_gradients_off_is_run_with_them():
    class Silent(Vit):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    class Half(Vit):
        def forward(self, x):
            with torch.no_grad():
                tokens = self.blocks[0](self.embed(x))
            return self.finish(self.blocks[1](tokens))

    x = pictures()
    agrees(look(Silent(), x), oracle(Vit(), x, 1))
    agrees(look(Half(), x), oracle(Vit(), x, 1))


def test_a_compiled_model_is_opened_as_plain_python():
    net, x = Vit(), pictures()
    wanted = oracle(net, x, 1)
    agrees(look(torch.compile(net, backend="eager"), x), wanted)
    inner = Vit(torch.compile(F.scaled_dot_product_attention, backend="eager"))
    agrees(look(inner, x), wanted)


def test_the_predicted_class_is_that_of_the_clean_output():
    net, x = Vit(), pictures()
    top = net(x).argmax(1).tolist()
    method = spy(lambda c: c.attention[0].gradients.sum((1, 2))[:, c.grid], BOTH)
    words = {"reshape": grid(), "registry": registry()}
    found = explain(net, x, method, **words).raw["input"]
    same(found, explain(net, x, method, ClassTarget(top), **words).raw["input"])


def test_other_products_are_no_obstacle():
    """Matrix times vector, sums of several operands, keywords: seen by the mode, none attention."""

    class Busy(Vit):
        def finish(self, tokens):
            maps = tokens.unflatten(1, (4, 4))
            zero = (maps @ torch.zeros(WIDTH, dtype=tokens.dtype)).sum()
            zero = zero + 0 * torch.einsum(tokens, [0, 1, 2], tokens, [0, 1, 2], [0]).sum()
            zero = zero + 0 * torch.einsum("ntc->n", tokens).sum()
            zero = zero + 0 * torch.matmul(input=tokens, other=tokens.mT).softmax(-1).sum()
            return super().finish(tokens) + zero

    x = pictures()
    agrees(look(Busy(), x), oracle(Vit(), x, 1))


def test_written_is_what_the_oracle_says():
    """Guard of this file: the forms compute one function."""
    x = pictures()
    for form in FORMS.values():
        close(Vit(form)(x).detach(), Vit(written)(x).detach())
