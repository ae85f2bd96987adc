"""Masks, boxes and labels against the rendered pixels."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from camkit_core import InputError
from camkit_playground.duo import CLASS_NAMES, Scene, batch, scene, scenes

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)

SEEDS = st.integers(0, 2**62)
SIZES = st.sampled_from([64, 96, 128])
OBJECTS = st.integers(1, 3)
HUES = {"red": 0.0, "green": 0.355, "blue": 0.605, "gold": 0.128}

Mask = NDArray[np.bool_]


def grown(mask: Mask, pixels: int = 1) -> Mask:
    """The mask and its neighbors in all eight directions."""
    padded = np.pad(mask, pixels)
    height, width = mask.shape
    steps = range(2 * pixels + 1)
    shifted = [padded[dy : dy + height, dx : dx + width] for dy in steps for dx in steps]
    return np.logical_or.reduce(shifted)


def changed(one: Scene, other: Scene) -> Mask:
    return (one.image != other.image).any(2)


@EXAMPLES
@given(seed=SEEDS, size=SIZES, objects=OBJECTS)
def test_an_object_is_where_the_picture_changes_without_it(
    seed: int, size: int, objects: int
) -> None:
    full = scene(seed, size=size, objects=objects)
    for index in np.flatnonzero(full.labels):
        bare = scene(seed, size=size, objects=objects, without=[int(index)])
        difference = changed(full, bare)
        assert (difference & full.masks[index]).sum() >= 0.99 * full.masks[index].sum()
        # Two pixels: the thin tips of stars and crescents cover less than half of their last ones.
        assert not (difference & ~grown(full.masks[index], 2)).any()
        assert not bare.labels[index]
        assert not bare.masks[index].any()
        others = np.arange(8) != index
        np.testing.assert_array_equal(bare.masks[others], full.masks[others])


@EXAMPLES
@given(seed=SEEDS, size=SIZES, objects=OBJECTS)
def test_labels_masks_and_boxes_tell_the_same(seed: int, size: int, objects: int) -> None:
    drawn = scene(seed, size=size, objects=objects)
    assert drawn.labels.sum() == objects == len(drawn.boxes)
    np.testing.assert_array_equal(drawn.labels, drawn.masks.any((1, 2)))
    assert {box[0] for box in drawn.boxes} == set(np.flatnonzero(drawn.labels))
    for index, top, left, bottom, right in drawn.boxes:
        rows, columns = np.nonzero(drawn.masks[index])
        found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert found == (top, left, bottom, right)
        assert 0 < top < bottom < size
        assert 0 < left < right < size


@EXAMPLES
@given(seed=SEEDS, objects=OBJECTS)
def test_pixels_of_a_mask_have_the_hue_of_its_class(seed: int, objects: int) -> None:
    drawn = scene(seed, objects=objects)
    for index in np.flatnonzero(drawn.labels):
        red, green, blue = drawn.image[drawn.masks[index]].mean(0) / 255
        hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
        wanted = HUES[CLASS_NAMES[index].split()[0]]
        assert min(abs(hue - wanted), 1 - abs(hue - wanted)) < 0.06
        assert saturation > 0.5


@EXAMPLES
@given(seed=SEEDS, size=SIZES, tag=st.booleans())
def test_objects_touch_neither_each_other_nor_the_tag(seed: int, size: int, tag: bool) -> None:
    drawn = scene(seed, size=size, objects=3, tag=tag)
    things = [drawn.masks[index] for index in np.flatnonzero(drawn.labels)] + [drawn.tag]
    for one, other in itertools.combinations(things, 2):
        assert not (grown(one) & other).any()


@EXAMPLES
@given(seed=SEEDS, size=SIZES, objects=OBJECTS)
def test_the_tag_changes_its_own_pixels_only(seed: int, size: int, objects: int) -> None:
    plain = scene(seed, size=size, objects=objects)
    tagged = scene(seed, size=size, objects=objects, tag=True)
    assert not plain.tag.any()
    np.testing.assert_array_equal(plain.masks, tagged.masks)
    assert plain.boxes == tagged.boxes
    difference = changed(plain, tagged)
    assert not (difference & ~grown(tagged.tag)).any()
    assert (difference & tagged.tag).sum() > 0.95 * tagged.tag.sum()


def test_the_tag_looks_the_same_everywhere() -> None:
    looks = []
    for seed in range(40):
        drawn = scene(seed, tag=True)
        rows, columns = np.nonzero(drawn.tag)
        part = drawn.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert part.shape == (8, 11, 3)
        looks.append((part.astype(float), (rows.min(), columns.min())))
    patterns, corners = zip(*looks, strict=True)
    assert len(set(corners)) == 4
    assert np.std(patterns, axis=0).max() < 12  # sensor noise
    assert np.mean(patterns, axis=0).std() > 90


@EXAMPLES
@given(seed=SEEDS, objects=OBJECTS)
def test_the_background_is_greyish(seed: int, objects: int) -> None:
    drawn = scene(seed, objects=objects, tag=True)
    rest = ~grown(drawn.masks.any(0))
    pixels = drawn.image[rest].astype(int)
    spread = pixels.max(1) - pixels.min(1)
    assert np.median(spread) < 45
    objects_spread = np.ptp(drawn.image[drawn.masks.any(0)].astype(int), axis=1)
    assert np.median(objects_spread) > 2 * np.median(spread)


@EXAMPLES
@given(seed=SEEDS, objects=OBJECTS)
def test_every_size_shows_the_same_layout(seed: int, objects: int) -> None:
    small = scene(seed, objects=objects, tag=True)
    large = scene(seed, objects=objects, tag=True, size=256)
    blocks = large.masks.reshape(8, 64, 4, 64, 4).mean((2, 4))
    certain = (blocks < 0.2) | (blocks > 0.8)
    assert certain.mean() > 0.95
    np.testing.assert_array_equal(small.masks[certain], blocks[certain] > 0.5)
    tags = large.tag.reshape(64, 4, 64, 4).mean((1, 3))
    np.testing.assert_array_equal(small.tag, tags == 1)
    shrunk = large.image.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 10


@EXAMPLES
@given(seed=SEEDS)
def test_another_class_in_the_same_place(seed: int) -> None:
    first = scene(seed, classes=["red disk", "blue ring"], size=128)
    second = scene(seed, classes=["red disk", "gold heart"], size=128)
    np.testing.assert_array_equal(first.masks[0], second.masks[0])
    assert first.masks[5].any()
    assert second.masks[6].any()
    outside = ~grown(first.masks[5] | second.masks[6], 3)
    assert not (changed(first, second) & outside).any()


def test_classes_are_drawn_evenly_and_in_all_pairs() -> None:
    labels = np.stack([drawn.labels for drawn in scenes(range(800))])
    assert labels.sum(1).tolist() == [2] * 800
    assert np.abs(labels.mean(0) - 0.25).max() < 0.06
    assert ((labels.T.astype(int) @ labels.astype(int)) > 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "negative"),
        ({"objects": 4}, "1, 2 or 3 objects, not 4"),
        ({"objects": 0}, "1, 2 or 3 objects, not 0"),
        ({"size": 16}, r"not in 32\.\.1024"),
        ({"size": 5000}, r"not in 32\.\.1024"),
        ({"classes": ["red dsk"]}, "did you mean 'red disk'"),
        ({"classes": ["zebra"]}, "expected one of red disk, red star"),
        ({"classes": [8]}, "0 to 7, not 8"),
        ({"classes": [1, "red star"]}, "1 to 3 different ones"),
        ({"classes": []}, "1 to 3 different ones"),
        ({"kind": "trian"}, "kind 'trian'"),
        ({"without": ["gold hart"]}, "did you mean 'gold heart'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        scene(**{"seed": 0, **options})  # type: ignore[arg-type]


def test_a_batch_is_what_the_networks_take() -> None:
    drawn = scenes(range(4), objects=1)
    images, masks, labels = batch(drawn)
    assert images.shape == (4, 3, 64, 64)
    restored = ((images * 0.25 + 0.5) * 255).round().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(restored.numpy(), np.stack([one.image for one in drawn]))
    np.testing.assert_array_equal(masks.numpy(), np.stack([one.masks for one in drawn]))
    np.testing.assert_array_equal(labels.numpy(), masks.numpy().any((2, 3)))
