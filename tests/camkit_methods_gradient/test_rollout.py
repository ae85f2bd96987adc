"""Attention rollout equals the product of its blocks, written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradient_proof import attention_reference as paper
from gradient_proof.attention_cases import READS, found, network, wanted
from gradient_proof.checks import assert_different, assert_equal
from gradient_proof.transformer import Tokens, pictures

from camkit_core import CapabilityError, OptionError, explain


@READS
@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_the_product_of_all_blocks(pool, prefix, heads):
    net, rows = network(pool, prefix)
    reference = wanted(net, lambda parts, row: paper.rollout(parts, row, rows, heads))
    assert_equal(found(net, f"rollout:heads={heads}"), reference)


@READS
@pytest.mark.parametrize(("start", "stop"), [(1, None), (-1, None), (0, 2), (1, 2)])
def test_some_blocks(pool, prefix, start, stop):
    net, rows = network(pool, prefix)
    spec = f"rollout:start={start}" + (f",stop={stop}" if stop else "")
    reference = wanted(net, lambda parts, row: paper.rollout(parts, row, rows), slice(start, stop))
    assert_equal(found(net, spec), reference)


@READS
@pytest.mark.parametrize("variant", ["paper", "vit-explain"])
def test_small_weights_may_be_discarded(pool, prefix, variant):
    net, rows = network(pool, prefix)
    reference = wanted(
        net,
        lambda parts, row: paper.rollout_discarding(
            parts, row, rows, 0.6, columns=variant == "vit-explain"
        ),
    )
    assert_equal(found(net, f"rollout:discard=0.6,variant={variant}"), reference)


def test_the_variants_differ_where_rows_do_not_sum_to_one():
    net, _ = network("class", 1)
    ours = found(net, "rollout:discard=0.6")
    assert_different(ours, found(net, "rollout:discard=0.6,variant=vit-explain"))
    assert_different(ours, found(net, "rollout"))
    assert_equal(found(net, "rollout:variant=vit-explain"), found(net, "rollout"))


def test_the_same_for_every_class_and_without_any():
    net, _ = network("class", 1)
    assert_equal(found(net, "rollout", target=3), found(net, "rollout"))

    class Headless(type(net)):
        def tail(self, tokens):
            return {"tokens": self.norm(tokens)}

    bare = Headless(seed=2)
    result = explain(bare, pictures(), "rollout", reshape=Tokens())
    assert_equal(result.raw["input"], found(net, "rollout"))
    assert result.provenance.backwards == 0


def test_attention_to_itself_stays_where_it_is():
    """Oracle: weights that are the identity give the identity, whatever the depth."""
    net, _ = network("mean", 0)
    for block in net.blocks:
        block.attention.attend = lambda q, k, v: _eye(v)
    result = explain(net, pictures(), "rollout", 1, reshape=Tokens(0))
    np.testing.assert_allclose(result.raw["input"], np.full((2, 3, 4), 1 / 12), atol=1e-12)


def _eye(v):
    scores = torch.eye(v.shape[2], dtype=v.dtype).masked_fill(~torch.eye(v.shape[2]).bool(), -1e9)
    return scores.expand(*v.shape[:2], -1, -1).softmax(-1) @ v


def test_a_slice_without_blocks_is_refused():
    net, _ = network("class", 1)
    with pytest.raises(OptionError, match=r"start=3, stop=None leaves none of the 3 blocks"):
        found(net, "rollout:start=3")


def test_blocks_with_other_tokens_are_refused():
    """Tokens are merged half way: relevance cannot be handed through."""
    net, _ = network("mean", 0)
    plain = net.blocks[1].attention.attend

    def merged(q, k, v):
        return plain(q, k[:, :, ::2], v[:, :, ::2])

    net.blocks[1].attention.attend = merged
    with pytest.raises(CapabilityError, match=r"'blocks.1.attention' attends from 12 to 6 tokens"):
        found(net, "rollout")
    assert found(net, "rollout:start=2").std() > 0
