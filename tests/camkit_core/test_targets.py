"""Every way to say what is explained, and every way to say it wrong."""

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
    LoadedModel,
    PerImageTarget,
    TargetError,
    TargetInfo,
    choose_classes,
    compare,
    explain,
)

NAMES = ("tabby", "tiger cat", "lynx", "Egyptian cat", "Lynx ")


def ask(target, n=3, net=None, **words):
    words.setdefault("registry", registry())
    return explain(net or Chain(), images(n), target=target, layers="body", **words)


def wanted(classes):
    x = images(len(classes))
    return gradcam(*split(Chain(), x, "body", of_class(list(classes))))


def named(names=NAMES):
    return LoadedModel(
        model=Chain(), spec="mine", weights="random", preprocess=None, class_names=names
    )


SAID = {
    "an index": (2, (2, 2, 2)),
    "a list": ([0, 4, 2], (0, 4, 2)),
    "a tuple": ((0, 4, 2), (0, 4, 2)),
    "a tensor": (torch.tensor([0, 4, 2]), (0, 4, 2)),
    "a tensor of one number": (torch.tensor(3), (3, 3, 3)),
    "small integers": (torch.tensor([1, 2, 3], dtype=torch.uint8), (1, 2, 3)),
    "digits": ("3", (3, 3, 3)),
    "a class target": (ClassTarget(1), (1, 1, 1)),
    "a class target per image": (ClassTarget((1, 0, 1)), (1, 0, 1)),
    "targets in a list": ([ClassTarget(1), 0, "2"], (1, 0, 2)),
    "a per-image target": (PerImageTarget((ClassTarget(4), ClassTarget(4), ClassTarget(0))), (4, 4, 0)),
}


@pytest.mark.parametrize("said", SAID)
def test_a_class_is_understood_however_it_is_said(said):
    target, classes = SAID[said]
    found = ask(target)
    close(found.raw["body"], wanted(classes))
    assert found.target.classes.tolist() == list(classes)
    assert found.target.labels == tuple(f"class {index}" for index in classes)
    assert torch.equal(found.score, found.output[range(3), list(classes)])


@pytest.mark.parametrize("target", [None, "pred", ClassTarget(), [None, "pred", None]])
def test_the_prediction_is_that_of_each_image(target):
    best = Chain()(images(3)).argmax(1)
    found = ask(target)
    assert torch.equal(found.target.classes, best)
    close(found.raw["body"], wanted(best.tolist()))


def test_ranks_are_in_the_order_of_the_scores():
    order = Chain()(images(3)).argsort(1, descending=True)
    for rank in range(CLASSES):
        assert torch.equal(ask(ClassTarget(rank=rank)).target.classes, order[:, rank])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_k_targets_of_a_comparison(k):
    order = Chain()(images(3)).argsort(1, descending=True)
    found = compare(Chain(), images(3), ["gradcam"], f"top{k}", "body", registry=registry())
    assert list(found) == [("gradcam", position) for position in range(k)]
    for position, one in enumerate(found.values()):
        assert torch.equal(one.target.classes, order[:, position])
        close(one.raw["body"], wanted(order[:, position].tolist()))


def test_top_k_may_stand_among_other_targets():
    found = compare(
        Chain(), images(), ["gradcam"], [4, "top2", "pred", [0, 1]], "body", registry=registry()
    )
    order = Chain()(images()).argsort(1, descending=True)
    classes = [one.target.classes.tolist() for one in found.values()]
    assert classes == [
        [4, 4], order[:, 0].tolist(), order[:, 1].tolist(), order[:, 0].tolist(), [0, 1]
    ]  # fmt: skip


def test_equal_scores_have_different_ranks():
    class Even(Chain):
        def finish(self, a):
            return super().finish(a)[:, [0, 0, 0, 1, 1]]

    found = compare(Even(), images(), ["gradcam"], "top5", "body", registry=registry())
    classes = torch.stack([one.target.classes for one in found.values()], 1)
    assert torch.equal(classes.sort(1).values, torch.arange(5).expand(2, 5))


@pytest.mark.parametrize("word", ["top2", "top10", "top1"])
def test_top_k_is_no_single_target(word):
    with pytest.raises(TargetError, match=rf"'{word}' means {word[3:]} targets.*compare\("):
        ask(word)


def test_more_ranks_than_classes_are_refused():
    with pytest.raises(TargetError, match="rank 6 was asked for, but the model has 5 classes"):
        compare(Chain(), images(), ["gradcam"], "top6", "body", registry=registry())


@pytest.mark.parametrize("word", ["top", "top0", "top-1", "topaz"])
def test_words_that_only_look_like_top_k_are_class_names(word):
    with pytest.raises(TargetError, match="class names are not known"):
        ask(word)


@pytest.mark.parametrize(
    ("word", "index"),
    [("tabby", 0), ("TABBY", 0), ("  Tiger Cat ", 1), ("egyptian cat", 3), ("2", 2)],
)
def test_a_class_name_is_found_whatever_its_case(word, index):
    found = ask(word, net=named())
    assert found.target.classes.tolist() == [index] * 3
    assert found.target.label == NAMES[index]
    close(found.raw["body"], wanted([index] * 3))


def test_class_names_label_every_class_target():
    found = ask([0, "tiger cat", None], net=named())
    best = int(Chain()(images(3))[2].argmax())
    assert found.target.labels == ("tabby", "tiger cat", NAMES[best])
    assert found[1].target.label == "tiger cat"
    assert found.provenance.target == ", ".join(dict.fromkeys(found.target.labels))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("taby", "'taby'; did you mean 'tabby'"),
        ("cat", "no class is called 'cat'; did you mean 'tiger cat' or 'Egyptian cat'"),
        ("submarine", "no class is called 'submarine'"),
        ("lynx", r"several classes are called 'lynx'.*\[2, 4\]"),
        ("17", "class 17 is out of range.*0..4"),
    ],
)
def test_an_unknown_or_double_class_name_is_refused_with_help(word, said):
    with pytest.raises(TargetError, match=said):
        ask(word, net=named())


def test_a_name_without_class_names_says_how_to_get_them():
    with pytest.raises(TargetError, match=r"'tabby'.*class names are not known.*camkit.load_model"):
        ask("tabby")


OUT_OF_RANGE = [5, 99, -1, -5, [0, 1, 5], [0, -1, 2], torch.tensor([7, 0, 0]), ClassTarget(5)]


@pytest.mark.parametrize("target", OUT_OF_RANGE, ids=str)
def test_a_class_out_of_range_is_refused_with_the_range(target):
    with pytest.raises(TargetError, match=r"out of range.*0\.\.4"):
        ask(target)


@pytest.mark.parametrize("target", [True, False, 1.0, 2.5, [1.0, 2, 3], [True, 0, 1]], ids=str)
def test_a_class_that_is_no_integer_is_refused(target):
    with pytest.raises(TargetError, match="integer"):
        ask(target)


@pytest.mark.parametrize("given", [1, 2, 4])
def test_the_number_of_targets_is_one_or_that_of_the_images(given):
    with pytest.raises(
        TargetError, match=f"{given} targets for 3 images: pass one target for all, or 3"
    ):
        ask([0] * given)
    with pytest.raises(TargetError, match=f"{given} targets for 3 images"):
        ask(["pred"] * given)
    with pytest.raises(TargetError, match=f"{given} targets for 3 images"):
        ask(ClassTarget((0,) * given))


@pytest.mark.parametrize("target", [object(), {"a": 1}, torch.eye(3), b"cat"])
def test_what_is_no_target_is_refused_with_what_would_be(target):
    with pytest.raises(TargetError, match=r"not understood.*class index.*function"):
        ask(target)


def test_numbers_that_are_no_classes_are_refused():
    with pytest.raises(TargetError, match="a class index is an integer, not float"):
        ask(torch.rand(3))


def test_an_empty_list_of_targets_is_refused():
    with pytest.raises(TargetError, match=r"targets=\[\] is empty"):
        compare(Chain(), images(), ["gradcam"], [], "body", registry=registry())


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
