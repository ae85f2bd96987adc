"""Tokens become pictures and come back, or the sums are in the error."""

from __future__ import annotations

import math
import re

import pytest
import torch
from pydantic import ValidationError

from camkit_core import LayoutError, Registry
from camkit_tasks import Tokens


def numbered(images: int, prefix: int, grid: tuple[int, ...], channels: int) -> torch.Tensor:
    """Token t of image n has the value 1000 n + t in channel 0, and negative values elsewhere."""
    count = prefix + math.prod(grid)
    tokens = -torch.arange(images * count * channels, dtype=torch.float64)
    tokens = tokens.view(images, count, channels)
    tokens[:, :, 0] = 1000 * torch.arange(images)[:, None] + torch.arange(count)
    return tokens


@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (8, 2), (12,), (2, 3, 4)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_every_token_lands_at_its_place_and_comes_back(prefix, grid):
    tokens = numbered(3, prefix, grid, 6)
    reshape = Tokens(prefix=prefix, grid=grid)
    maps = reshape.to_spatial(tokens)
    assert maps.shape == (3, 6, *grid)
    for position in range(math.prod(grid)):
        index, rest = [], position
        for side in reversed(grid):
            rest, here = divmod(rest, side)
            index.insert(0, here)
        for image in range(3):
            assert torch.equal(maps[(image, slice(None), *index)], tokens[image, prefix + position])
    assert torch.equal(reshape.from_spatial(maps, tokens), tokens)


def test_prefix_tokens_come_from_the_original_and_nothing_else_does():
    tokens = numbered(2, 2, (3, 5), 4)
    reshape = Tokens(prefix=2, grid=(3, 5))
    changed = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    back = reshape.from_spatial(changed, tokens)
    assert torch.equal(back[:, :2], tokens[:, :2])
    assert torch.equal(reshape.to_spatial(back), changed)


def test_the_precision_of_the_original_is_kept():
    tokens = numbered(1, 1, (2, 2), 3).half()
    back = Tokens(prefix=1).from_spatial(torch.randn(1, 3, 2, 2), tokens)
    assert back.dtype == torch.float16


def test_gradients_pass_both_ways():
    tokens = numbered(2, 1, (2, 3), 4).requires_grad_()
    reshape = Tokens(prefix=1, grid=(2, 3))
    weight = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    (reshape.to_spatial(tokens) * weight).sum().backward()
    assert tokens.grad is not None
    assert torch.equal(reshape.to_spatial(tokens.grad), weight)
    assert torch.equal(tokens.grad[:, 0], torch.zeros(2, 4, dtype=torch.float64))


def test_the_tensor_in_an_attention_layers_tuple_is_used():
    tokens = numbered(2, 1, (2, 2), 4)
    reshape = Tokens(prefix=1, grid=(2, 2))
    maps = reshape.to_spatial((tokens, None))
    assert torch.equal(maps, reshape.to_spatial(tokens))
    back = reshape.from_spatial(maps + 1, (tokens, None))
    assert isinstance(back, tuple)
    assert back[1] is None
    assert torch.equal(back[0][:, 1:], tokens[:, 1:] + 1)


@pytest.mark.parametrize(
    ("count", "prefix", "side"),
    [(197, 1, 14), (198, 2, 14), (201, 5, 14), (196, 0, 14), (257, 1, 16)],
)
def test_prefix_and_square_are_found_where_there_is_one_reading(count, prefix, side):
    tokens = numbered(1, prefix, (side, side), 2)
    assert tokens.shape[1] == count
    assert torch.equal(
        Tokens().to_spatial(tokens), Tokens(prefix=prefix, grid=(side, side)).to_spatial(tokens)
    )


def test_several_readings_are_an_error_that_lists_them():
    with pytest.raises(LayoutError, match=r"17 tokens, which reads as 17 = 1 \+ 4·4 and 17 = 8"):
        Tokens().to_spatial(torch.zeros(1, 17, 2))


@pytest.mark.parametrize(
    ("reshape", "count", "words"),
    [
        (Tokens(prefix=1), 201, "201 = 5 + 14·14; prefix=1 given, which leaves 200"),
        (Tokens(prefix=1, grid=(14, 14)), 201, "201 = 5 + 14·14; prefix=1 given"),
        (Tokens(prefix=1, grid=(14, 14)), 150, "150 is less than 14·14; prefix=1 given"),
        (Tokens(grid=(14, 14)), 150, "150 is less than 14·14; grid=14x14 given"),
        (Tokens(prefix=1), 61, "61 = 12 + 7·7; prefix=1 given, which leaves 60"),
        (Tokens(prefix=30), 60, "60 = 11 + 7·7"),
        (Tokens(prefix=9), 5, "prefix=9 given"),
        (Tokens(), 250, "no square with 0 to 16 prefix tokens; give the grid"),
    ],
)
def test_sums_that_do_not_add_up_are_shown(reshape, count, words):
    with pytest.raises(LayoutError, match=re.escape(words)):
        reshape.to_spatial(torch.zeros(1, count, 2))


def test_a_picture_is_not_a_sequence():
    with pytest.raises(LayoutError, match=r"tokens must be \[N, T, C\].*\[1, 3, 4, 4\]"):
        Tokens().to_spatial(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("shape", [(2, 4, 2, 2), (1, 4, 3, 2), (1, 3, 2, 3)])
def test_maps_that_do_not_fit_are_refused(shape):
    with pytest.raises(LayoutError, match=r"do not fit tokens \[1, 7, 4\].*7 = 1 \+ 2·3"):
        Tokens(prefix=1, grid=(2, 3)).from_spatial(torch.zeros(shape), torch.zeros(1, 7, 4))


def test_written_as_a_specification():
    assert Tokens(prefix="1", grid="7x28") == Tokens(prefix=1, grid=(7, 28))
    assert Tokens(grid="5X6X7").grid == (5, 6, 7)


@pytest.mark.parametrize("wrong", [{"prefix": -1}, {"grid": "14by14"}, {"grid": "0x4"}, {"cls": 1}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        Tokens(**wrong)


def test_channels_last_moves_the_last_axis_and_back():
    from camkit_tasks import plugin

    registry = Registry(discover=False, plugins=[("camkit-tasks", plugin)])
    reshape = registry.resolve("reshape", "channels_last")()
    output = torch.arange(2 * 3 * 5 * 4.0).view(2, 3, 5, 4)
    maps = reshape.to_spatial(output)
    assert maps.shape == (2, 4, 3, 5)
    assert maps[1, 2, 0, 4] == output[1, 0, 4, 2]
    assert torch.equal(reshape.from_spatial(maps, output), output)
