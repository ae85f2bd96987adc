"""Grad-ECLIP equals its equation, written as loops."""

from __future__ import annotations

import pytest
from gradient_proof import attention_reference as paper
from gradient_proof.attention_cases import READS, found, network, wanted
from gradient_proof.checks import assert_different, assert_equal

from camkit_core import CapabilityError


@READS
@pytest.mark.parametrize("start", [-1, -2, 0])
def test_the_equation(pool, prefix, start):
    net, rows = network(pool, prefix)
    reference = wanted(
        net,
        lambda parts, row: paper.gradeclip(parts, row, rows, prefix),
        slice(start, None),
    )
    assert_equal(found(net, f"gradeclip:start={start}"), reference)


def test_the_last_block_is_what_is_shown_by_default():
    net, _ = network("class", 1)
    assert_equal(found(net, "gradeclip"), found(net, "gradeclip:start=2"))
    assert_different(found(net, "gradeclip"), found(net, "gradeclip:start=1"))


def test_hidden_values_are_refused():
    """An equation that camkit does not read shows weights, but not which values they weigh."""
    import torch

    def transposed(q, k, v):
        weights = (q @ k.mT).softmax(-1)
        return torch.einsum("bhij,bhjd->bihd", weights, v).transpose(1, 2)

    net, _ = network("class", 1)
    for block in net.blocks:
        block.attention.attend = transposed
    with pytest.raises(CapabilityError, match=r"does not show queries, keys and values.*chefer"):
        found(net, "gradeclip")
    assert found(net, "chefer").std() > 0


def test_classes_differ():
    net, _ = network("class", 1)
    assert_different(found(net, "gradeclip", target=2), found(net, "gradeclip"))
