"""Every way to say what is explained, and every way to say it wrong."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry
from core_proof.networks import CLASSES, Chain, gradcam, images, of_class, split

from camkit_core import (
    ClassTarget,
    LoadedModel,
    PerImageTarget,
    TargetError,
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
    "a per-image target": (
        PerImageTarget((ClassTarget(4), ClassTarget(4), ClassTarget(0))),
        (4, 4, 0),
    ),
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
