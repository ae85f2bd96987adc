"""A map that shows nothing carries an issue with the reason, the images and the layer."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import telling
from core_proof.methods import registry, spy
from core_proof.networks import Chain, fill, images
from torch import nn

from camkit_core import Need, compare, explain


def drawn(raw, **words):
    """An explanation with this raw map."""
    x = images(len(raw))
    method = spy(lambda capture: raw, Need.ACTIVATIONS)
    return explain(Chain(), x, method, 0, "body", registry=registry(), **words)


def codes(explanation):
    return {(issue.code, issue.images, issue.layer) for issue in explanation.issues}


def varied(n):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, 5, generator=generator, dtype=torch.float64)


def test_an_ordinary_map_has_no_issue():
    assert drawn(varied(2)).issues == ()


def test_every_kind_of_empty_map_names_its_images():
    raw = varied(6)
    raw[1] = 0
    raw[2] = -raw[2].abs() - 0.1
    raw[3] = 2.5
    raw[4] = -3.0
    raw[5] = -raw[5].abs()
    raw[5, 0, 0] = 0
    found = drawn(raw)
    assert codes(found) == {
        ("all_zero", (1,), "body"),
        ("all_negative", (2, 5), "body"),
        ("constant", (3, 4), "body"),
    }
    empty = found.maps[1:].flatten(1)
    assert torch.count_nonzero(empty) == 0
    telling(found.maps[:1])


def test_a_map_that_varies_by_rounding_only_is_constant():
    raw = varied(3)
    raw[1] = 0.3 * (1 + 1e-15 * raw[1])
    assert float(raw[1].std()) > 0
    found = drawn(raw)
    assert codes(found) == {("constant", (1,), "body")}
    assert torch.count_nonzero(found.maps[1]) == 0


def test_issues_follow_the_image_when_one_is_taken_out():
    raw = varied(3)
    raw[2] = 0
    found = drawn(raw)
    assert codes(found[0]) == codes(found[1]) == set()
    assert codes(found[2]) == {("all_zero", (0,), "body")}


def test_issues_follow_a_slice_of_images_with_new_row_numbers():
    raw = varied(4)
    raw[1] = raw[3] = 0
    found = drawn(raw)
    assert codes(found[1:]) == {("all_zero", (0, 2), "body")}
    assert codes(found[::2]) == set()
    assert codes(found[::-1]) == {("all_zero", (0, 2), "body")}


def test_a_class_without_weights_is_all_zero_and_its_neighbour_is_not():
    net, x = Chain(), images(2)
    net.head.weight.data[3] = 0
    found = compare(net, x, ["hires"], [3, [3, 0], 0], "stem", registry=registry())
    first, mixed, other = found.values()
    assert codes(first) == {("all_zero", (0, 1), "stem")}
    assert codes(mixed) == {("all_zero", (0,), "stem")}
    assert "zero everywhere" in first.issues[0].message
    assert other.issues == ()
    assert torch.count_nonzero(first.maps) == 0
    telling(other.maps)


def test_evidence_against_a_score_is_all_negative_and_evidence_for_it_is_none():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    fill(net).eval()
    x, reg = images(2), registry()
    up = explain(net, x, "hires", lambda out: out.sum(), "1", registry=reg)
    down = explain(net, x, "hires", lambda out: -out.sum(), "1", registry=reg)
    assert torch.equal(down.raw["1"], -telling(up.raw["1"]))
    assert codes(up) == set()
    assert codes(down) == {("all_negative", (0, 1), "1")}
    assert "no value is positive" in down.issues[0].message
    assert torch.count_nonzero(down.maps) == 0


def test_every_layer_has_its_own_issues():
    net, x = Chain(), images(2)
    method = spy(
        lambda c: c.activations.sum(1) * (0.0 if c.layer == "neck" else 1.0), Need.ACTIVATIONS
    )
    found = explain(net, x, method, 0, ["stem", "neck", "body"], registry=registry())
    assert codes(found) == {("all_zero", (0, 1), "neck")}
    telling(found.maps)


class Pooled(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def finish(self, a):
        return super().finish(self.pool(a))


def test_a_layer_of_one_position_says_that_it_cannot_localise():
    found = explain(Pooled(), images(2), "gradcam", 0, "pool", registry=registry())
    assert codes(found) == {("no_localisation", (), "pool")}
    assert "single position" in found.issues[0].message
    assert torch.count_nonzero(found.raw["pool"]) == 2
    assert torch.count_nonzero(found.maps) == 0


def test_what_a_method_reports_is_attached_once_with_its_layer():
    def look(capture):
        for _ in range(2):
            capture.report("fallback", "took another road", (1,))
        return capture.activations.sum(1)

    found = explain(
        Chain(), images(2), spy(look, Need.ACTIVATIONS), 0, ["body", "neck"], registry=registry()
    )
    assert codes(found) == {("fallback", (1,), "body"), ("fallback", (1,), "neck")}
    assert len(found.issues) == 2
    assert codes(found[0]) == set()


@pytest.mark.parametrize("n", [1, 4])
def test_identical_images_have_identical_maps_and_no_issue(n):
    x = images(1).expand(n, -1, -1, -1)
    found = explain(Chain(), x, "gradcam", 0, "body", registry=registry())
    assert found.issues == ()
    spread = (telling(found.raw["body"]) - found.raw["body"][:1]).abs().max()
    assert float(spread) < 1e-14
