"""Grids and sheets of several overlays: the right picture in the right place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camkit_core import BudgetError, Comparison, Geometry, Issue, Picture
from camkit_render import Grid, Overlay
from camkit_render.labels import method_label, target_label
from camkit_render.layout import GAP
from camkit_render.look import Look
from camkit_render.panels import input_panel

SIZE = 128


def find(sheet, panel):
    """Top left corners at which `panel` lies in `sheet`, exactly."""
    sheet, panel = np.array(sheet), np.array(panel)
    height, width = panel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (height, width), (0, 1))
    probes = [(0, 0), (height // 2, width // 2), (height - 1, width // 3)]
    hit = np.ones(windows.shape[:2], bool)
    for y, x in probes:
        hit &= (windows[:, :, :, y, x] == panel[y, x]).all(2)
    corners = [tuple(map(int, corner)) for corner in np.argwhere(hit)]
    return [(y, x) for y, x in corners if (sheet[y : y + height, x : x + width] == panel).all()]


def whole(height, width):
    return Geometry(
        source_size=(height, width),
        input_size=(height, width),
        scale=(1.0, 1.0),
        offset=(0.0, 0.0),
    )


def warm(seed, rows=1):
    return torch.rand(rows, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def picture(noise_photo):
    return Picture(noise_photo(32, 32), whole(32, 32))


def alone(explanation, **options):
    return Overlay()([explanation], size=SIZE, **options)


def test_rows_are_targets_and_columns_are_methods(make, picture):
    table = {
        (method, label): make(warm(seed), method=method, label=label, pictures=[picture])
        for seed, (method, label) in enumerate(
            (m, t) for m in ("gradcam", "layercam") for t in ("class 281", "class 282")
        )
    }
    sheet = Grid()(list(table.values()), size=SIZE)
    places = {}
    for key, explanation in table.items():
        (places[key],) = find(sheet, alone(explanation))
    assert places["gradcam", "class 281"][0] == places["layercam", "class 281"][0]
    assert places["gradcam", "class 282"][0] == places["layercam", "class 282"][0]
    assert places["gradcam", "class 281"][0] < places["gradcam", "class 282"][0]
    assert places["gradcam", "class 281"][1] == places["gradcam", "class 282"][1]
    assert places["gradcam", "class 281"][1] < places["layercam", "class 281"][1]
    inputs = find(sheet, input_panel(table["gradcam", "class 281"], 0, Look(), SIZE))
    assert [y for y, _ in inputs] == [places["gradcam", t][0] for t in ("class 281", "class 282")]
    assert {x for _, x in inputs} == {GAP}, "the input picture comes first"


def test_a_batch_gives_one_row_per_image_with_its_own_photo(make, noise_photo):
    pictures = [Picture(noise_photo(32, 32 + wider), whole(32, 32 + wider)) for wider in (0, 8)]
    explanation = make(warm(1, rows=2), pictures=pictures, labels=("tabby", "tiger"))
    sheet = Grid()([explanation], size=SIZE)
    tops = []
    for row in (0, 1):
        ((top, _),) = find(sheet, alone(explanation[row]))
        tops.append(top)
        assert find(sheet, input_panel(explanation, row, Look(), SIZE))
    assert tops[0] < tops[1]
    assert [target_label(explanation, row) for row in (0, 1)] == ["tabby", "tiger"]


def test_rows_of_one_image_stay_together(make):
    """Explanations come one target after the other; the grid shows one image after the other."""
    given = [make(warm(seed, rows=2), label=f"class {seed}") for seed in (1, 2)]
    sheet = Grid()(given, size=SIZE)
    tops = [find(sheet, alone(given[target][row]))[0][0] for row in (0, 1) for target in (0, 1)]
    assert tops == sorted(tops)
    assert len(set(tops)) == 4


def test_explanations_of_different_calls_line_up_by_their_input(make, picture):
    other = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(99))
    first = make(warm(1), method="gradcam")
    second = make(warm(2), method="gradcam", inputs=other)
    third = make(warm(3), method="layercam", inputs=other)
    sheet = Grid()([first, second, third], size=SIZE)
    places = [find(sheet, alone(item))[0] for item in (first, second, third)]
    assert places[0][1] == places[1][1] < places[2][1]
    assert places[0][0] < places[1][0] == places[2][0]
    empty = np.array(sheet)[places[0][0] : places[0][0] + SIZE, places[2][1] :]
    assert (empty == 255).all(), "a missing combination stays white"


def test_the_same_thing_twice_is_shown_twice(make):
    """Two models, say: nothing may hide behind an equal label."""
    first, second = make(warm(1)), make(warm(2))
    sheet = Grid()([first, second], size=SIZE)
    (one,), (two,) = find(sheet, alone(first)), find(sheet, alone(second))
    assert one[1] == two[1]
    assert one[0] < two[0]


def test_a_comparison_is_drawn_as_it_is(make):
    items = {("gradcam", 0): make(warm(1)), ("layercam", 0): make(warm(2), method="layercam")}
    sheet = Grid()(Comparison(items), size=SIZE)
    np.testing.assert_array_equal(
        np.array(sheet), np.array(Grid()(list(items.values()), size=SIZE))
    )


def test_one_explanation_is_a_grid_too(make):
    explanation = make(warm(4))
    assert find(Grid()([explanation], size=SIZE), alone(explanation))


def lines_of(sheet, items):
    """Left edges of the pictures, line by line; each is found exactly once."""
    lines = {}
    for item in items:
        ((top, left),) = find(sheet, alone(item))
        lines.setdefault(top, []).append(left)
    return [lines[top] for top in sorted(lines)]


def methods(make, count, **options):
    return [make(warm(seed), method=f"method{seed}", **options) for seed in range(count)]


@pytest.mark.parametrize(
    ("given", "columns", "expected"),
    [
        (3, None, [4]),
        (6, None, [7]),
        (7, None, [4, 4]),
        (20, None, [7, 7, 7]),
        (19, None, [7, 7, 6]),
        (4, 2, [2, 2, 1]),
        (4, 1, [1, 1, 1, 1, 1]),
        (8, 9, [9]),
        (4, 20, [5]),
    ],
)
def test_a_single_row_goes_on_in_the_next_line(make, picture, given, columns, expected):
    items = methods(make, given, pictures=[picture])
    options = {} if columns is None else {"columns": columns}
    sheet = Grid()(items, size=SIZE, **options)
    places = [GAP + place * (SIZE + GAP) for place in range(max(expected))]
    lines = [places[:count] for count in expected]
    ((top, left),) = find(sheet, input_panel(items[0], 0, Look(), SIZE))
    assert left == lines[0].pop(0) == GAP, "the photo is shown once, before everything else"
    assert lines_of(sheet, items) == [line for line in lines if line]
    corners = [find(sheet, alone(item))[0] for item in items]
    assert [(top, left), *corners] == sorted([(top, left), *corners]), "the order given"


def test_every_line_has_its_own_heads(make):
    """Another name changes the pixels above its picture in that line, and no others."""
    items = methods(make, 5)
    renamed = [*items[:4], make(warm(4), method="another")]
    first, second = (np.array(Grid()(each, size=SIZE, columns=3)) for each in (items, renamed))
    assert first.shape == second.shape
    changed = np.argwhere((first != second).any(2))
    ((top, left),) = find(second, alone(items[4]))
    assert len(changed) > 20
    assert (changed[:, 0] < top).all()
    assert (changed[:, 0] >= top - 25).all()
    assert (changed[:, 1] >= left).all()
    assert (changed[:, 1] < left + SIZE).all()


def test_heads_are_nearer_to_their_own_line_than_to_the_one_above(make):
    items = methods(make, 3)
    sheet = np.array(Grid()(items, size=SIZE, columns=2, title=""))
    ((above, left),), ((below, _),) = (find(sheet, alone(items[place])) for place in (0, 2))
    inked = (sheet[above + SIZE : below, left : left + SIZE] != 255).any((1, 2))
    rows = np.flatnonzero(inked)
    assert len(rows), "the head of the second line"
    assert len(inked) - 1 - rows[-1] < rows[0]


def test_a_table_of_several_rows_is_not_wrapped(make):
    given = [
        make(warm(10 * target + seed), method=f"method{seed}", label=f"class {target}")
        for target in (1, 2)
        for seed in range(3)
    ]
    wrapped, usual = Grid()(given, size=SIZE, columns=2), Grid()(given, size=SIZE)
    np.testing.assert_array_equal(np.array(wrapped), np.array(usual))
    assert [len(line) for line in lines_of(usual, given)] == [3, 3]


def test_names_tell_columns_apart(make):
    given = [
        make(warm(0), method="scorecam", parameters={"k": 1, "same": 2}),
        make(warm(0), method="scorecam", parameters={"k": 3, "same": 2}),
        make(warm(0), method="gradcam"),
    ]
    assert [method_label(item, given) for item in given] == [
        "scorecam k=1",
        "scorecam k=3",
        "gradcam",
    ]
    layers = [make(warm(0), layers=(name,)) for name in ("layer3", "layer4")]
    assert [method_label(item, layers) for item in layers] == [
        "gradcam at layer3",
        "gradcam at layer4",
    ]


def test_title_strip_can_be_named_and_left_out(make):
    explanation = make(warm(1))
    sheets = [Grid()([explanation], size=SIZE, title=title) for title in (None, "Other", "")]
    assert sheets[0].height >= sheets[1].height > sheets[2].height
    other = Grid()([explanation], size=SIZE, title="Ohter")
    assert other.size == sheets[1].size
    assert (np.array(other) != np.array(sheets[1])).any()


@pytest.mark.parametrize("renderer", [Grid, Overlay])
def test_hostile_and_endless_labels_stay_inside_the_sheet(make, renderer):
    hostile = "<script>\x00\u202e\ud800\n" + "W" * 2000
    issue = Issue("x", hostile * 3)
    usual = [make(warm(1)), make(warm(2), method="layercam")]
    odd = [
        make(warm(1), label=hostile, issues=[issue]),
        make(warm(2), label=hostile, method=hostile),
    ]
    sheets = [np.array(renderer()(items, size=SIZE, title="t")) for items in (usual, odd)]
    assert sheets[0].shape[1] == sheets[1].shape[1], "labels wrap, they do not widen"
    assert sheets[1].shape[0] < sheets[0].shape[0] + 400, "labels are cut, they do not grow"
    for border in (sheets[1][:, :GAP], sheets[1][:, -GAP:], sheets[1][:GAP], sheets[1][-GAP:]):
        assert (border == 255).all(), "no ink is clipped at the border"


def test_labels_carry_target_score_and_method(make):
    base = np.array(Grid()([make(warm(1))], size=SIZE))
    for change in ({"label": "class 999"}, {"score": [7.25]}, {"method": "layercam"}):
        other = np.array(Grid()([make(warm(1), **change)], size=SIZE))
        assert other.shape == base.shape
        assert (other != base).any(), change


def test_a_deviating_score_is_printed_at_its_cell(make):
    same = [make(warm(1)), make(warm(2), method="layercam")]
    other = [same[0], make(warm(2), method="layercam", score=[9.0])]
    first, second = (np.array(Grid()(items, size=SIZE)) for items in (same, other))
    assert first.shape == second.shape
    difference = np.argwhere((first != second).any(2))
    ((top, left),) = find(second, alone(other[1]))
    assert (difference[:, 0] >= top + SIZE).all()
    assert (difference[:, 1] >= left).all()


def test_notices_stand_below_their_own_cell(make):
    quiet = [make(warm(1)), make(warm(2), method="layercam")]
    told = [quiet[0], make(warm(2), method="layercam", issues=[Issue("x", "look out")])]
    sheet = np.array(Grid()(told, size=SIZE)).astype(int)
    ((top, left),) = find(sheet.astype(np.uint8), alone(told[1], captions=False))
    below = sheet[top + SIZE : top + SIZE + 25]
    orange = (below[..., 0] - below[..., 2]) > 80
    assert orange[:, left : left + SIZE].any()
    assert not orange[:, :left].any()
    without = Grid()(told, size=SIZE, captions=False)
    np.testing.assert_array_equal(np.array(without), np.array(Grid()(quiet, size=SIZE)))


def test_several_overlays_make_a_sheet(make):
    items = [make(warm(seed), label=f"class {seed}") for seed in range(5)]
    sheet = Overlay()(items, size=SIZE, columns=3)
    places = [find(sheet, alone(item))[0] for item in items]
    assert len({y for y, _ in places[:3]}) == 1
    assert len({y for y, _ in places[3:]}) == 1
    assert [x for _, x in places[:3]] == sorted({x for _, x in places})
    assert places[3][0] > places[0][0]


def test_the_default_size_shrinks_until_the_sheet_can_be_opened(make):
    items = [make(warm(0), label=f"class {index}") for index in range(3)]
    assert Grid()(items).width < 600
    with pytest.raises(BudgetError, match=r"megapixels.*smaller size="):
        Grid()(items, size=6000)
