"""Generic attention relevance equals its update rule, written as loops."""

from __future__ import annotations

import pytest
from gradient_proof import attention_reference as paper
from gradient_proof.attention_cases import READS, found, network, wanted
from gradient_proof.checks import assert_different, assert_equal


@READS
@pytest.mark.parametrize("start", [0, 1, -1])
def test_the_update_rule(pool, prefix, start):
    net, rows = network(pool, prefix)
    reference = wanted(net, lambda parts, row: paper.chefer(parts, row, rows), slice(start, None))
    assert_equal(found(net, f"chefer:start={start}"), reference)


def test_one_block_is_gradient_times_attention():
    """Oracle: the last block's class token row alone."""
    net, _ = network("class", 1)
    one = wanted(
        net, lambda parts, row: (parts[0].g_p * parts[0].p)[row].clip(0).mean(0)[0], slice(-1, None)
    )
    assert_equal(found(net, "chefer:start=-1"), one)


def test_classes_differ():
    net, _ = network("class", 1)
    assert_different(found(net, "chefer", target=2), found(net, "chefer"))
