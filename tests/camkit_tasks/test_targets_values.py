"""Numbers that are no class scores, and sets of labels, against their formulas."""

from __future__ import annotations

import pytest
import torch

from camkit_core import TargetError
from camkit_tasks import Binary, Labels, Raw, Value


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def no_run(inputs):
    raise AssertionError("these targets need no further run")


OWNER = torch.tensor([1, 0, 1])


@pytest.mark.parametrize("shape", [(2,), (2, 1)], ids=str)
@pytest.mark.parametrize(
    ("positive", "signs"), [(True, [1, 1, 1]), (False, [-1, -1, -1]), (None, [-1, 1, -1])]
)
def test_binary_is_the_logit_on_one_side(shape, positive, signs):
    clean = torch.tensor([0.5, -2.0]).reshape(shape)
    changed = numbers(3, *shape[1:])
    bound = Binary(positive).bind(clean, no_run)
    assert torch.equal(bound(changed, OWNER), changed.flatten() * torch.tensor(signs))


def test_a_logit_of_zero_is_on_the_negative_side():
    info = Binary().bind(torch.tensor([0.0, 1.0]), no_run).describe()
    assert info.labels == ("negative answer", "positive answer")
    assert info.classes is None


@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 4), (2, 3, 4, 4)], ids=str)
def test_binary_needs_one_logit(shape):
    with pytest.raises(TargetError, match=r"one logit per image, \[N\] or \[N, 1\]"):
        Binary().bind(numbers(*shape), no_run)


def test_value_is_one_output_or_how_close_it_is():
    outputs = numbers(3, 4)
    assert torch.equal(Value(2).bind(outputs, no_run)(outputs, OWNER), outputs[:, 2])
    close = Value(2, at=0.75).bind(outputs, no_run)(outputs, OWNER)
    assert close.tolist() == [-abs(y - 0.75) for y in outputs[:, 2].tolist()]
    alone = numbers(3)
    assert torch.equal(Value().bind(alone, no_run)(alone, OWNER), alone)
    assert Value(2).describe().label == "output 2"
    assert Value(0, at=0.75).describe().label == "output 0 close to 0.75"


@pytest.mark.parametrize(
    ("index", "shape", "said"),
    [
        (4, (2, 4), r"output 4 is out of range.*0\.\.3"),
        (-1, (2, 4), r"output -1 is out of range"),
        (1, (2,), r"output 1 is out of range.*0\.\.0"),
        (0, (2, 4, 3, 3), r"\[2, 4, 3, 3\] is not one number per image"),
    ],
)
def test_value_that_is_not_there(index, shape, said):
    with pytest.raises(TargetError, match=said):
        Value(index).bind(numbers(*shape), no_run)


@pytest.mark.parametrize("index", [(1,), (2, 0), (0, 1, 2)], ids=str)
def test_raw_is_any_number_of_the_output(index):
    outputs = numbers(3, *(i + 2 for i in index))
    bound = Raw(index).bind(outputs, no_run)
    assert bound(outputs, OWNER).tolist() == [float(outputs[(m, *index)]) for m in range(3)]
    assert bound.describe().label == "raw output " + "".join(f"[{i}]" for i in index)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)], ids=str)
def test_raw_needs_no_index_where_there_is_one_number(shape):
    outputs = numbers(*shape)
    assert torch.equal(Raw().bind(outputs, no_run)(outputs, OWNER), outputs.flatten())


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ((), r"\[2, 4, 3\]: 2 indices name one number per image, 0 were given"),
        ((1,), "2 indices name one number per image, 1 were given"),
        ((1, 3), "index 3 at place 1 is out of range"),
        ((-1, 0), "index -1 at place 0 is out of range"),
    ],
)
def test_raw_that_is_not_there(index, said):
    with pytest.raises(TargetError, match=said):
        Raw(index).bind(numbers(2, 4, 3), no_run)


@pytest.mark.parametrize("target", [Binary(), Value(), Raw(), Labels((0,))], ids=repr)
@pytest.mark.parametrize("output", [{"a": None}, (numbers(2, 3), numbers(2, 3))], ids=["no", "two"])
def test_an_output_without_one_tensor_is_refused(target, output):
    with pytest.raises(TargetError, match="which part holds"):
        target.bind(output, no_run)


def test_labels_add_up_the_logits_of_a_set():
    outputs = numbers(3, 5)
    bound = Labels((4, 1)).bind(numbers(2, 5, seed=3), no_run)
    torch.testing.assert_close(bound(outputs, OWNER), outputs[:, 4] + outputs[:, 1])
    assert bound.describe().labels == ("class 1 + class 4",) * 2


def test_labels_without_classes_are_those_the_image_is_said_to_have():
    clean = torch.tensor([[1.0, -1.0, 2.0], [-3.0, 0.5, 0.0]])
    outputs = numbers(3, 3)
    bound = Labels().bind(clean, no_run)
    wanted = torch.stack([outputs[0, 1], outputs[1, 0] + outputs[1, 2], outputs[2, 1]])
    torch.testing.assert_close(bound(outputs, OWNER), wanted)
    assert bound.describe().labels == ("class 0 + class 2", "class 1")


def test_classes_outside_of_the_set_do_not_matter_whatever_they_are():
    outputs = torch.tensor([[1.0, -torch.inf, 2.0]])
    assert Labels((0, 2)).bind(outputs, no_run)(outputs, torch.tensor([0])).item() == 3


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ((), "one or more different classes"),
        ((1, 1), "one or more different classes"),
        ((0, 5), "class 5 is out of range"),
        (None, "image 1: no class has a positive logit"),
    ],
)
def test_labels_that_make_no_set(classes, said):
    with pytest.raises(TargetError, match=said):
        Labels(classes).bind(torch.tensor([[1.0, -1.0], [-1.0, -0.0]]), no_run)


@pytest.mark.parametrize(
    "target", [Value(1), Value(1, at=0.3), Raw((1,)), Labels((0, 1))], ids=repr
)
def test_gradient(target):
    rows = numbers(3, 4).requires_grad_()
    bound = target.bind(rows.detach()[:2], no_run)
    assert torch.autograd.gradcheck(lambda y: bound(y, OWNER), (rows,))
