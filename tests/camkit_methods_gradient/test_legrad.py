"""LeGrad equals the mean of positive gradients of each block's own score."""

from __future__ import annotations

import pytest
import torch
from gradient_proof import attention_reference as paper
from gradient_proof.attention_cases import READS, TARGET, found, network, wanted
from gradient_proof.checks import assert_different, assert_equal
from gradient_proof.transformer import pictures
from torch import nn


@READS
@pytest.mark.parametrize(("start", "stop"), [(0, None), (-1, None), (1, 2)])
@pytest.mark.parametrize("tokens", ["mean", "own"])
def test_the_mean_of_positive_gradients(pool, prefix, start, stop, tokens):
    net, _ = network(pool, prefix)
    spec = f"legrad:tokens={tokens},start={start}" + (f",stop={stop}" if stop else "")
    own = tokens == "own"
    reference = wanted(
        net, lambda parts, row: paper.legrad(parts, row, own=own), slice(start, stop)
    )
    assert_equal(found(net, spec), reference)


def test_one_attention_and_a_linear_head():
    """Oracle: ds/dP_hij = v_hj . W_o,c / T for every query i, so nothing but values matters."""
    net, _ = network("mean", 0)
    net.blocks = net.blocks[:1]
    block, width = net.blocks[0], 8
    block.mlp = Nothing()
    net.norm = nn.Identity()
    x = pictures()
    tokens = block.norm(net.embed(x))
    v = block.attention.qkv(tokens)[..., 2 * width :].unflatten(2, (2, -1))  # [N, T, heads, D]
    out = (net.fc.weight[TARGET] @ block.attention.out.weight).unflatten(0, (2, -1))
    slope = torch.einsum("nthd,hd->nht", v, out) / 12
    wanted_maps = slope.relu().mean(1).reshape(2, 3, 4).detach()
    assert_equal(found(net, "legrad:tokens=own", x), wanted_maps, 1e-12)
    assert_equal(found(net, "legrad", x), wanted_maps, 1e-12)


class Nothing(nn.Module):
    def forward(self, x):
        return 0 * x


def test_mean_and_own_tokens_differ_behind_a_class_token():
    net, _ = network("class", 1)
    assert_different(found(net, "legrad"), found(net, "legrad:tokens=own"))


def test_classes_differ():
    net, _ = network("class", 1)
    assert_different(found(net, "legrad", target=2), found(net, "legrad"))
