"""What a color stands for: own and shared scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from camkit_core import OptionError
from camkit_render import HeatMap
from camkit_render.colors import colors_of
from camkit_render.look import Look
from camkit_render.scale import fields_of


def spot(strength):
    """A map with one warm patch."""
    raw = torch.zeros(1, 8, 8)
    raw[0, 2:5, 3:6] = strength
    return raw


@pytest.fixture
def weak_and_strong(make):
    return [
        make(spot(1.0), raw=spot(strength), label=f"class {index}")
        for index, strength in enumerate((0.002, 0.008))
    ]


def test_own_scale_draws_both_at_full_color(weak_and_strong):
    weak, strong = fields_of(weak_and_strong, "own")
    assert torch.equal(weak[0].values, strong[0].values)
    assert weak[0].values.max() == 1


def test_shared_scale_draws_raw_values(weak_and_strong):
    weak, strong = fields_of(weak_and_strong, "shared")
    assert weak[0].values.max() == pytest.approx(0.25)
    assert strong[0].values.max() == 1
    assert weak[0].peak == strong[0].peak == pytest.approx(0.008)


def test_shared_scale_reaches_the_colors(weak_and_strong):
    pixels = np.array(HeatMap()([weak_and_strong[0]], scale="shared"))
    alone = np.array(HeatMap()([weak_and_strong[0]]))
    np.testing.assert_array_equal(pixels, alone)  # the only map of the call is its own peak
    sheet = np.array(HeatMap()(weak_and_strong, scale="shared", size=128, columns=2, title="t"))
    last = tuple(colors_of(Look(), signed=False).table[-1])
    quarter = tuple(colors_of(Look(), signed=False).table[64])
    left, right = sheet[:, : sheet.shape[1] // 2], sheet[:, sheet.shape[1] // 2 :]
    area = [int((side == last).all(2).sum()) for side in (left, right)]
    assert area[0] < 50 < area[1], "only the strong map (and a sliver of legend) is fully hot"
    assert (left == quarter).all(2).any()


def test_own_scale_keeps_default_display_maps(make):
    maps = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    maps = maps / maps.amax((1, 2), keepdim=True)
    for row, field in enumerate(fields_of([make(maps)], "own")[0]):
        assert torch.equal(field.values, maps[row])


def test_own_scale_fits_unnormalized_display_maps(make):
    maps = torch.tensor([[[0.0, 30.0], [15.0, 0.0]]])
    (field,) = fields_of([make(maps)], "own")[0]
    assert torch.equal(field.values, maps[0] / 30)
    assert field.peak == 30


def test_shared_scale_ignores_what_post_processing_did(make):
    """Min-max normalisation hides an offset; the raw map has it."""
    raw = torch.tensor([[[4.0, 8.0], [4.0, 6.0]]])
    display = (raw - 4) / 4
    (field,) = fields_of([make(display, raw=raw)], "shared")[0]
    assert torch.equal(field.values, raw[0] / 8)


def test_shared_scale_drops_negative_evidence_of_unsigned_maps(make):
    raw = torch.tensor([[[-8.0, 2.0]]])
    (field,) = fields_of([make(raw.relu() / 2, raw=raw)], "shared")[0]
    assert not field.signed
    assert torch.equal(field.values, torch.tensor([[0.0, 1.0]]))


def test_shared_scale_of_signed_maps_keeps_the_sign(make):
    raw = torch.tensor([[[-8.0, 2.0]]])
    signed = make(raw / 8, raw=raw)
    unsigned = make(torch.tensor([[[0.0, 1.0]]]), raw=torch.tensor([[[0.0, 4.0]]]))
    first, second = fields_of([signed, unsigned], "shared")
    assert first[0].signed
    assert second[0].signed
    assert torch.equal(first[0].values, torch.tensor([[-1.0, 0.25]]))
    assert torch.equal(second[0].values, torch.tensor([[0.0, 0.5]]))


def test_methods_do_not_share_a_scale(make):
    """Their raw values have different units."""
    given = [
        make(spot(1.0), raw=spot(0.001), method="gradcam"),
        make(spot(1.0), raw=spot(0.9), method="scorecam"),
        make(spot(1.0), raw=spot(0.004), method="gradcam"),
        make(spot(1.0), raw=spot(0.5), method="scorecam", parameters={"k": 3}),
        make(spot(1.0), raw=spot(0.01), method="gradcam", layers=("layer3",)),
    ]
    peaks = [fields[0].values.max().item() for fields in fields_of(given, "shared")]
    assert peaks == pytest.approx([0.25, 1, 1, 1, 1])


def test_shared_scale_resizes_and_averages_layers(make):
    generator = torch.Generator().manual_seed(3)
    deep = torch.rand(2, 3, 3, generator=generator)
    shallow = torch.rand(2, 6, 6, generator=generator)
    explanation = make(torch.rand(2, 12, 12), raw={"a": deep, "b": shallow})
    expected = sum(
        functional.interpolate(raw[:, None], size=(12, 12), mode="bilinear")[:, 0] / 2
        for raw in (deep, shallow)
    )
    for field, row in zip(fields_of([explanation], "shared")[0], expected, strict=True):
        assert field.peak == pytest.approx(expected.max().item())
        torch.testing.assert_close(field.values * field.peak, row)


def test_a_raw_nan_spreads_to_what_was_computed_from_it_only(make):
    raw = torch.ones(1, 4, 4)
    raw[0, 0, 0] = float("nan")
    (field,) = fields_of([make(torch.ones(1, 8, 8), raw=raw)], "shared")[0]
    assert field.values.isfinite().all()
    assert field.values[4:, 4:].eq(1).all()
    assert field.dropped == int((field.values == 0).sum()) > 0


@pytest.mark.parametrize("scale", ["own", "shared"])
def test_empty_maps_stay_empty(make, scale):
    (field,) = fields_of([make(torch.zeros(1, 4, 4))], scale)[0]
    assert field.empty
    assert field.peak == 0


def test_tiny_raw_values_do_not_overflow(make):
    raw = torch.full((1, 2, 2), 1e-42)
    (field,) = fields_of([make(torch.ones(1, 2, 2), raw=raw)], "shared")[0]
    torch.testing.assert_close(field.values, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("raw", "words"),
    [({}, "this explanation has none"), ({"head": torch.rand(1, 5)}, r"\[1, 5\] of head")],
)
def test_shared_scale_without_fitting_raw_maps_is_an_error(make, raw, words):
    with pytest.raises(OptionError, match=words):
        fields_of([make(torch.rand(1, 4, 4), raw=raw)], "shared")
