"""Every step of post-processing against a computation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from core_proof.checks import close, same, telling
from core_proof.methods import registry, spy
from core_proof.networks import Chain, images
from hypothesis import given
from hypothesis import strategies as st

from camkit_core import DEFAULT_POST, Need, OptionError, Post, compare, explain
from camkit_core.post import Merge, Normalize, Relu, Resize


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def bilinear(image, height, width):
    """Linear interpolation between pixel centers, one value at a time."""

    def weights(size, wanted, place):
        position = min(max((place + 0.5) * size / wanted - 0.5, 0.0), size - 1.0)
        low = min(math.floor(position), size - 1)
        return low, min(low + 1, size - 1), position - low

    rows = []
    for r in range(height):
        low_r, high_r, part_r = weights(image.shape[0], height, r)
        row = []
        for c in range(width):
            low_c, high_c, part_c = weights(image.shape[1], width, c)
            top = image[low_r, low_c] * (1 - part_c) + image[low_r, high_c] * part_c
            bottom = image[high_r, low_c] * (1 - part_c) + image[high_r, high_c] * part_c
            row.append(top * (1 - part_r) + bottom * part_r)
        rows.append(torch.stack(row))
    return torch.stack(rows)


SIZES = [(7, 10), (14, 20), (3, 4), (1, 1), (1, 9), (7, 3), (8, 11)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", [(3, 4), (1, 5), (2, 2), (7, 10)])
def test_resize_interpolates_between_pixel_centers(source, size):
    maps = drawn(2, *source)
    (found,) = Resize()([maps], size)
    wanted = torch.stack([bilinear(one, *size) for one in maps])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


def test_resize_puts_a_single_bright_cell_where_it_was():
    maps = torch.zeros(1, 4, 5, dtype=torch.float64)
    maps[0, 1, 3] = 1
    (found,) = Resize()([maps], (40, 50))
    peak = (found[0] > found[0].max() - 1e-12).nonzero().double().mean(0)
    assert peak.tolist() == [14.5, 34.5]
    mass = found[0] / found[0].sum()
    assert float((mass.sum(1) * torch.arange(40)).sum()) == pytest.approx(14.5)
    assert float((mass.sum(0) * torch.arange(50)).sum()) == pytest.approx(34.5)


@pytest.mark.parametrize("size", [(11,), (5, 6, 7), (3, 4, 5, 6), (2, 3, 2, 3, 4)])
def test_resize_of_any_number_of_axes_is_linear_along_each(size):
    source = tuple(max(s - 2, 1) for s in size)
    maps = drawn(2, *source)
    (found,) = Resize()([maps], size)
    wanted = maps
    for axis, length in enumerate(size, start=1):
        last = wanted.movedim(axis, -1)
        flat = last.reshape(-1, last.shape[-1])
        both = torch.stack([flat, flat], 1)  # bilinear on two equal rows is linear along a row
        line = torch.stack([bilinear(one, 2, length)[0] for one in both])
        wanted = line.reshape(*last.shape[:-1], length).movedim(-1, axis)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


def test_resize_to_the_same_size_is_nothing_and_a_constant_stays_constant():
    maps = drawn(2, 3, 4)
    assert Resize()([maps], (3, 4))[0] is maps
    (flat,) = Resize()([torch.full((1, 3, 4), 2.5)], (9, 9))
    torch.testing.assert_close(flat, torch.full((1, 9, 9), 2.5), rtol=1e-6, atol=0)


def test_relu_keeps_what_speaks_for_the_target():
    maps = drawn(2, 3, 4)
    (found,) = Relu()([maps], ())
    assert torch.equal(found, torch.where(maps > 0, maps, 0.0))
    assert bool((maps < 0).any())


def test_minmax_scales_every_map_by_itself():
    maps = drawn(3, 4, 5) * torch.tensor([1.0, 100.0, 1e-6]).reshape(3, 1, 1) - 3
    (found,) = Normalize()([maps], ())
    for one, scaled in zip(maps, found, strict=True):
        torch.testing.assert_close(
            scaled, (one - one.min()) / (one.max() - one.min()), rtol=1e-9, atol=1e-10
        )
        assert float(scaled.min()) == 0
        assert float(scaled.max()) == 1


def test_max_scaling_keeps_sign_and_zero():
    maps = drawn(3, 4, 5)
    maps[1] = -maps[1].abs()
    maps[2] = 0
    (found,) = Normalize("max")([maps], ())
    torch.testing.assert_close(found[0], maps[0] / maps[0].abs().max())
    assert float(found[1].min()) == -1
    assert torch.count_nonzero(found[2]) == 0


FLAT = {
    "zero": torch.zeros(1, 3, 4),
    "positive": torch.full((1, 3, 4), 0.3),
    "large": torch.full((1, 3, 4), 1e30),
    "tiny": torch.full((1, 3, 4), 1e-38),
    "negative": torch.full((1, 3, 4), -7.0),
    "constant up to rounding": torch.full((1, 3, 4), 0.3)
    * (1 + torch.arange(12).reshape(3, 4) * 2e-8),
}


@pytest.mark.parametrize("kind", FLAT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_map_becomes_zero_and_no_noise_is_stretched(kind, dtype):
    maps = FLAT[kind].to(torch.float32).to(dtype)
    if dtype == torch.float64 and kind.startswith("constant"):
        maps = 0.3 * (1 + torch.arange(12, dtype=dtype).reshape(1, 3, 4) * 1e-17)
    (found,) = Normalize()([maps], ())
    assert torch.count_nonzero(found) == 0
    assert torch.isfinite(DEFAULT_POST([maps], (6, 8))).all()
    assert torch.count_nonzero(DEFAULT_POST([maps], (6, 8))) == 0


def test_a_faint_but_real_map_is_still_drawn():
    maps = 1.0 + 1e-3 * drawn(1, 3, 4).float()
    (found,) = Normalize()([maps], ())
    assert float(found.max()) == 1
    telling(found)


def test_merge_is_the_mean_or_the_maximum_over_layers():
    maps = [drawn(2, 3, 4, seed=s) for s in range(3)]
    same(Merge()(maps, ())[0], (maps[0] + maps[1] + maps[2]) / 3)
    (top,) = Merge("max")(maps, ())
    assert torch.equal(top, torch.maximum(torch.maximum(maps[0], maps[1]), maps[2]))
    assert Merge()(maps[:1], ())[0] is maps[0]


def minmax(x):
    return (x - x.min()) / (x.max() - x.min()) if float(x.max()) > float(x.min()) else 0 * x


def test_the_default_is_relu_scale_resize_mean_scale():
    maps = [drawn(2, 3, 4), drawn(2, 7, 10, seed=1)]
    found = DEFAULT_POST(maps, (7, 10))
    for row in range(2):
        layers = [minmax(one[row].clamp(min=0)) for one in maps]
        mean = (bilinear(layers[0], 7, 10) + layers[1]) / 2
        torch.testing.assert_close(found[row], minmax(mean), rtol=1e-11, atol=1e-12)
    telling(found)


def test_the_signed_preset_keeps_evidence_against_the_target():
    maps = [drawn(2, 3, 4)]
    net, x = Chain(), images()
    found = explain(
        net,
        x,
        spy(lambda c: maps[0], Need.ACTIVATIONS),
        0,
        "body",
        post="signed",
        registry=registry(),
    )
    for row in range(2):
        resized = bilinear(maps[0][row], 7, 10)
        close(found.maps[row][None], (resized / resized.abs().max())[None], 1e-11)
    assert float(found.maps.min()) < -0.1


def test_the_raw_preset_only_resizes():
    maps = [drawn(2, 3, 4), drawn(2, 3, 4, seed=2)]
    methods = spy(lambda c: maps[c.layer == "neck"], Need.ACTIVATIONS)
    found = explain(
        Chain(), images(), methods, 0, ["body", "neck"], post="raw", registry=registry()
    )
    wanted = torch.stack([bilinear((maps[0][row] + maps[1][row]) / 2, 7, 10) for row in range(2)])
    close(found.maps, wanted, 1e-11)


def test_custom_steps_run_in_order_and_are_written_down():
    def double(maps, size):
        return [2 * one for one in maps]

    steps = [Resize(), double, Merge("max"), lambda maps, size: [one + 1 for one in maps]]
    found = explain(
        Chain(), images(), "hires", 1, ["body", "neck"], post=steps, registry=registry()
    )
    raw = [torch.stack([bilinear(one, 7, 10) for one in found.raw[n]]) for n in ("body", "neck")]
    close(found.maps, torch.maximum(2 * raw[0], 2 * raw[1]) + 1, 1e-11)
    assert found.provenance.post == ("Resize()", "double", "Merge(how='max')", "<lambda>")


def test_a_post_object_is_taken_as_it_is():
    mine = Post("mine", (Resize(), Merge()))
    one = explain(Chain(), images(), target=1, layers="body", post=mine, registry=registry())
    two = explain(Chain(), images(), target=1, layers="body", post="raw", registry=registry())
    same(one.maps, two.maps)
    assert one.provenance.post == ("Resize()", "Merge(how='mean')")


WRONG = {
    "a typo": ("defalt", "not one of default, signed, raw; did you mean 'default'"),
    "a number": (3, "post=3: give one of"),
    "steps that are no functions": ([Resize(), "merge"], "sequence of steps"),
    "no resize": (
        [Relu(), Merge()],
        r"'custom' ended with \[\[2, 4, 5\]\].*\[7, 10\].*Resize",
    ),
    "no merge": ([Resize()], r"ended with \[\[2, 7, 10\], \[2, 7, 10\]\].*Merge"),
    "nothing": ([], "ended with"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_post_processing_is_refused_with_the_remedy(kind):
    post, words = WRONG[kind]
    with pytest.raises(OptionError, match=words):
        explain(
            Chain(), images(), target=1, layers=["body", "neck"], post=post, registry=registry()
        )


def test_raw_maps_are_the_methods_own_whatever_is_drawn():
    found = {
        post: explain(
            Chain(), images(), target=1, layers="body", post=post, registry=registry()
        ).raw["body"]
        for post in ("default", "signed", "raw")
    }
    same(found["default"], found["raw"])
    same(found["signed"], found["raw"])
    assert bool((found["raw"] < 0).any())


def test_every_row_is_drawn_by_itself():
    net, x = Chain(), images(3)
    targets, reg = [0, 3], registry()
    together = compare(net, x, ["gradcam", "hires"], targets, ["stem", "neck"], registry=reg)
    for (method, position), found in together.items():
        for row in range(3):
            alone = explain(
                net, x[row : row + 1], method, targets[position], ["stem", "neck"], registry=reg
            )
            close(found.maps[row : row + 1], alone.maps, 1e-10)


@given(
    st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99)
)
def test_default_maps_are_between_zero_and_one_for_any_size(rows, columns, height, width, seed):
    maps = drawn(2, rows, columns, seed=seed)
    found = DEFAULT_POST([maps], (height, width))
    assert found.shape == (2, height, width)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    positive = (maps > 0).flatten(1).any(1) & (rows * columns > 1)
    for row in range(2):
        if bool(positive[row]) and (height, width) == (rows, columns):
            assert float(found[row].max()) == 1
