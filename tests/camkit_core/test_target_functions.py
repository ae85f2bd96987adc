"""Functions and third parties' targets as what is explained."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close, same
from core_proof.methods import registry
from core_proof.networks import CLASSES, Chain, gradcam, images, of_class, split
from core_proof.plugins import module

from camkit_core import (
    CallableTarget,
    ClassTarget,
    PerImageTarget,
    TargetError,
    TargetInfo,
    choose_classes,
    explain,
)


def ask(target, n=3, net=None, **words):
    words.setdefault("registry", registry())
    return explain(net or Chain(), images(n), target=target, layers="body", **words)


def wanted(classes):
    x = images(len(classes))
    return gradcam(*split(Chain(), x, "body", of_class(list(classes))))


def test_a_function_sees_one_images_output_and_is_named_in_the_result():
    seen = []

    def contrast(out):
        seen.append(tuple(out.shape))
        return out[1] - out[2]

    found = ask(contrast)
    assert set(seen) == {(CLASSES,)}
    assert found.target == TargetInfo(kind="function", label="contrast")
    activations, gradients = split(Chain(), images(3), "body", lambda out: out[:, 1] - out[:, 2])
    close(found.raw["body"], gradcam(activations, gradients))
    torch.testing.assert_close(found.score, found.output[:, 1] - found.output[:, 2])


def test_a_function_may_return_one_number_in_any_shape_and_read_containers():
    class Boxed(Chain):
        def finish(self, a):
            return {"y": super().finish(a), "names": ["x"] * len(a), "step": torch.tensor(7)}

    def target(out):
        assert out["y"].shape == (CLASSES,)
        assert int(out["step"]) == 7
        return out["y"][3:4][None]

    close(ask(target, net=Boxed()).raw["body"], wanted([3] * 3))


class Detector(Chain):
    """A list with one dictionary per image, of a different number of boxes each."""

    def finish(self, a):
        scores = super().finish(a)
        return [
            {"scores": one[: 3 + row], "labels": torch.arange(3 + row)}
            for row, one in enumerate(scores)
        ]


def test_a_function_sees_one_images_entry_of_a_list_output():
    seen = []

    def third_box(out):
        seen.append((len(out["scores"]), out["labels"].tolist()))
        return out["scores"][2]

    found = ask(third_box, net=Detector())
    assert set(map(str, seen)) == {str((k, list(range(k)))) for k in (3, 4, 5)}
    close(found.raw["body"], wanted([2, 2, 2]))


def test_targets_may_differ_in_kind_per_image():
    def last(out):
        return out[4]

    found = ask([1, last, "pred"])
    best = int(Chain()(images(3))[2].argmax())
    close(found.raw["body"], wanted([1, 4, best]))
    assert found.target.labels == ("class 1", "last", f"class {best}")
    assert found.target.classes is None
    assert found[1].target.label == "last"


RETURNS = {
    "a vector": (lambda out: out, r"tensor \[5\] for image 0"),
    "an empty tensor": (lambda out: out[:0], r"tensor \[0\] for image 0"),
    "a number": (lambda out: 3.0, "3.0 for image 0"),
    "nothing": (lambda out: None, "None for image 0"),
    "a python number of a tensor": (lambda out: out[0].item(), "for image 0"),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_a_function_that_returns_no_scalar_tensor_is_refused(kind):
    target, words = RETURNS[kind]
    with pytest.raises(TargetError, match=rf"returned .*{words}.*scalar tensor"):
        ask(target)


MISSES = {
    "index": (lambda out: out[9], "IndexError: index 9 is out of bounds"),
    "key": (lambda out: {"a": out}["b"], "KeyError: 'b'"),
    "attribute": (lambda out: out.logits, "AttributeError: .*logits"),
    "type": (lambda out: out("logits"), "TypeError: 'Tensor' object is not callable"),
}


@pytest.mark.parametrize("kind", MISSES)
def test_a_function_that_reads_what_is_not_there_is_told_what_it_got(kind):
    target, words = MISSES[kind]
    with pytest.raises(
        TargetError,
        match=rf"^target function <lambda> does not fit the output of image 0, tensor \[5\]: "
        rf"{words}.*; it gets the output of one image, without the batch axis: correct the index",
    ) as caught:
        ask(target)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, (LookupError, AttributeError, TypeError))


@pytest.mark.parametrize("target", [lambda out: out[9], lambda out: out])
def test_the_image_that_is_named_is_the_one_the_row_was_made_from(target):
    with pytest.raises(TargetError, match=r"image 4\b"):
        CallableTarget(target)(torch.zeros(2, 3), torch.tensor([4, 1]))


def test_what_else_a_function_raises_reaches_the_caller():
    def stop(out):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ask(stop)


CUT = {
    "detach": lambda out: out[0].detach(),
    "argmax": lambda out: out.argmax().double(),
    "a new tensor": lambda out: torch.tensor(out[0].item(), dtype=torch.float64),
    "no_grad": lambda out: torch.no_grad()(lambda: out[0] * 2)(),
    "a comparison": lambda out: (out[0] > out[1]).double(),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_score_that_is_not_connected_is_refused_for_gradients_only(kind):
    with pytest.raises(
        TargetError, match=r"not connected to body by gradients.*argmax.*\.item\(\).*without grad"
    ):
        ask(CUT[kind])
    assert torch.isfinite(ask(CUT[kind], method="mean").score).all()


def test_a_score_of_something_else_than_the_layer_is_refused():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.raises(Exception, match="body") as caught:
        ask(lambda out: weight * 2)
    assert type(caught.value).__module__ == "camkit_core.errors"
    assert weight.grad is None


class Vectorized:
    """A target of a third party."""

    def __init__(self, score):
        self.score = score

    def bind(self, output, run):
        return self

    def __call__(self, output, owner):
        return self.score(output, owner)

    def describe(self):
        return TargetInfo(kind="mine", label="my score")


def test_a_vectorized_target_scores_all_rows_at_once():
    found = ask(Vectorized(lambda out, owner: out.logsumexp(1) + owner))
    wanted_ = split(Chain(), images(3), "body", lambda out: out.logsumexp(1))
    close(found.raw["body"], gradcam(*wanted_))
    torch.testing.assert_close(found.score, found.output.logsumexp(1) + torch.arange(3))
    assert found.target.label == found.provenance.target == "my score"


@pytest.mark.parametrize(
    ("score", "shape"),
    [
        (lambda out, owner: out, r"\[3, 5\]"),
        (lambda out, owner: out.sum(), r"\[\]"),
        (lambda out, owner: out[:1, 0], r"\[1\]"),
        (lambda out, owner: [1, 2, 3], "list"),
    ],
)
def test_a_vectorized_target_of_another_shape_is_refused(score, shape):
    with pytest.raises(TargetError, match=rf"'my score' scored {shape}.*3 images.*\[3\]"):
        ask(Vectorized(score))


def test_a_target_may_run_the_model_on_other_inputs_when_it_is_bound():
    net, reference = Chain(), images(1, seed=7)

    class Difference(Vectorized):
        def bind(self, output, run):
            assert not torch.is_grad_enabled()
            self.other = run(reference)
            return self

    target = Difference(None)
    target.score = lambda out, owner: (out * target.other).sum(1)
    found = ask(target, net=net)
    same(target.other, net(reference).detach())
    assert found.provenance.forwards == 2
    wanted_ = split(net, images(3), "body", lambda out: (out * target.other).sum(1))
    close(found.raw["body"], gradcam(*wanted_))


def test_a_plugin_may_understand_words_that_core_does_not():
    plugin = module(
        "p",
        camkit_target_for=lambda request: (
            CallableTarget(lambda out: out[2]) if request in ("second", 2j) else None
        ),
    )
    reg = registry(("words", plugin))
    for request in ("second", 2j, ["second", 2, 2j]):
        close(ask(request, registry=reg).raw["body"], wanted([2, 2, 2]))
    with pytest.raises(TargetError):
        ask("third", registry=reg)


def test_the_class_is_settled_on_the_clean_output():
    bound = ClassTarget().bind(torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 1.0]]), None)
    other = torch.tensor([[9.0, 1.0, 2.0], [3.0, 8.0, 4.0], [5.0, 6.0, 7.0]])
    assert bound(other, torch.tensor([0, 1, 0])).tolist() == [1.0, 3.0, 6.0]


def test_per_image_targets_follow_their_owner_in_any_order():
    bound = PerImageTarget((ClassTarget(0), CallableTarget(lambda out: out[2]))).bind(
        torch.zeros(2, 3), None
    )
    rows = torch.arange(12.0).reshape(4, 3)
    assert bound(rows, torch.tensor([1, 0, 0, 1])).tolist() == [2.0, 3.0, 6.0, 11.0]


@pytest.mark.parametrize("requested", [None, 1, (0, 1), torch.tensor([1, 1])])
def test_classes_can_be_chosen_without_a_model(requested):
    found = choose_classes(torch.tensor([[0.0, 1.0], [3.0, 1.0]]), requested)
    assert found.dtype == torch.long
    assert found.tolist() == {None: [1, 0], 1: [1, 1], (0, 1): [0, 1]}.get(
        requested if not isinstance(requested, torch.Tensor) else "tensor", [1, 1]
    )
