"""AttCAT equals its equation, written as loops."""

from __future__ import annotations

import pytest
from gradient_proof import attention_reference as paper
from gradient_proof.attention_cases import READS, found, network, wanted
from gradient_proof.checks import assert_different, assert_equal


@READS
@pytest.mark.parametrize("start", [0, 1, -1])
@pytest.mark.parametrize("queries", ["all", "read"])
def test_the_equation(pool, prefix, start, queries):
    net, rows = network(pool, prefix)
    if pool == "class" and start == -1:
        return  # the last block's patches do not reach the class token any more: an empty map
    asked = rows if queries == "read" else None
    reference = wanted(net, lambda parts, row: paper.attcat(parts, row, asked), slice(start, None))
    assert_equal(found(net, f"attcat:start={start},queries={queries}"), reference)


def test_the_map_is_signed():
    net, _ = network("mean", 0)
    maps = found(net, "attcat")
    assert maps.min() < 0 < maps.max()


def test_the_last_block_of_a_class_token_says_nothing_of_the_patches():
    net, _ = network("class", 1)
    assert not found(net, "attcat:start=-1").any()


def test_classes_differ():
    net, _ = network("class", 1)
    assert_different(found(net, "attcat", target=2), found(net, "attcat"))
