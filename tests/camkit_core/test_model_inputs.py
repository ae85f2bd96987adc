"""Several inputs, keyword inputs, and which of them is the image."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import Chain, gradcam, images, of_class, split

from camkit_core import INPUT, InputError, Need, Prepared, TensorRows, explain


class Conditioned(Chain):
    """The image, a vector per image that scales the features behind `body`, a gain for all."""

    def forward(self, image, condition, gain=1.0, extra=None):
        z = self.until("body", image)
        shape = (*condition.shape, *[1] * (z.ndim - 2))
        return gain * self.after("body", z * condition.reshape(shape))


@pytest.fixture
def condition():
    return torch.linspace(-1.5, 2.0, 12, dtype=torch.float64).reshape(2, 6)


@pytest.fixture
def wanted(condition):
    net, x = Chain(), images()
    z = net.until("body", x).detach().requires_grad_()
    score = 2 * net.after("body", z * condition[:, :, None, None])[:, 1].sum()
    return gradcam(z.detach(), torch.autograd.grad(score, z)[0])


CALLS = {
    "tuple": lambda x, c: (x, c, 2.0),
    "dict": lambda x, c: {"image": x, "condition": c, "gain": 2.0},
    "dict in another order": lambda x, c: {"gain": 2.0, "condition": c, "image": x},
    "with a list": lambda x, c: (x, c, 2.0, ["a", "b"]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_tuples_are_positional_and_dicts_are_keyword_arguments(call, mode, condition, wanted):
    net = Conditioned()
    with mode():
        inputs = CALLS[call](images(), condition * 1.0)
        found = explain(net, inputs, target=1, layers="body", registry=registry())
    close(found.raw["body"], wanted)


def test_the_first_tensor_with_three_axes_is_the_image(condition):
    class Reversed(Conditioned):
        def forward(self, condition, image):
            return super().forward(image, condition)

    x = images()
    found = explain(Reversed(), (condition, x), "saliency", 1, registry=registry())
    straight = explain(Conditioned(), (x, condition), "saliency", 1, registry=registry())
    close(found.raw[INPUT], straight.raw[INPUT])
    assert torch.equal(found.inputs, x)


class Two(Chain):
    """A reference image before the image."""

    def forward(self, reference, image):
        return super().forward(image) - 0.5 * super().forward(reference)


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_image_names_which_of_two_images_is_explained(kind):
    reference, x = images(seed=5), images()
    given = (reference, x) if kind == "tuple" else {"reference": reference, "image": x}
    names = (0, 1) if kind == "tuple" else ("reference", "image")
    gains = {names[0]: -0.5, names[1]: 1.0}
    for name, picture in zip(names, (reference, x), strict=True):
        leaf = picture.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(gains[name] * Chain()(leaf)[:, 2].sum(), leaf)
        found = explain(Two(), given, "saliency", 2, image=name, registry=registry())
        close(found.raw[INPUT], (gradient * picture).sum(1))
        assert torch.equal(found.inputs, picture)


@pytest.mark.parametrize(("given", "name"), [((1,), 5), ((1,), "photo"), ((1, 0), 1)])
def test_an_image_that_is_no_tensor_of_the_inputs_is_refused(given, name):
    inputs = tuple(images() if kind else "text" for kind in given)
    with pytest.raises(InputError, match=f"image={name!r} names no tensor"):
        explain(Chain(), inputs, "saliency", image=name, registry=registry())


def test_other_batched_arguments_follow_the_image_their_row_belongs_to(condition):
    net, x, found = Conditioned(), images(), []
    owner = torch.tensor([1, 0, 1])
    rows = x[owner] * 0.5

    def look(capture):
        found.append(capture.scores(TensorRows(rows, owner)))
        found.append(capture.tail(TensorRows(capture.activations[owner], owner)))
        return capture.inputs.sum(1)

    needs = Need.SCORES | Need.TAIL | Need.ACTIVATIONS
    explain(net, (x, condition), spy(look, needs), 1, "body", registry=registry())
    clean = net(x, condition).detach()[owner, 1]
    torch.testing.assert_close(
        found[0], net(rows, condition[owner]).detach()[:, 1], rtol=1e-12, atol=0
    )
    torch.testing.assert_close(found[1], clean, rtol=1e-12, atol=0)


def test_a_prepared_batch_is_explained_like_its_tensor_and_keeps_its_photos():
    x, photos = images(2), ("first", "second")
    found = explain(Chain(), Prepared(x, photos), target=1, layers="body", registry=registry())
    close(found.raw["body"], gradcam(*split(Chain(), x, "body", of_class(1))))
    assert found.pictures == photos
    assert found[1].pictures == ("second",)


WRONG = {
    "pictures": (Prepared(images(3), ("first", "second")), "2 pictures for 3 images"),
    "list": ([1.0, 2.0], r"float tensor \[N, C, \*S\].*builtins.list.*open_photo"),
    "array like": (memoryview(b"abc"), r"float tensor \[N, C, \*S\].*memoryview"),
    "none": (None, "NoneType"),
    "vector": (torch.zeros(4), r"at least three dimensions.*\[4\]"),
    "matrix": (torch.zeros(4, 3), r"at least three dimensions.*\[4, 3\]"),
    "empty tuple": ((), "no image among the inputs"),
    "empty dict": ({}, "no image among the inputs"),
    "bytes": (torch.zeros(2, 3, 7, 10, dtype=torch.uint8), r"uint8 \[2, 3, 7, 10\].*x.float\(\)"),
    "integers": (torch.zeros(2, 3, 7, 10, dtype=torch.long), "int64.*float tensor"),
    "flags": (torch.zeros(2, 3, 7, 10, dtype=torch.bool), "bool.*float tensor"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_inputs_of_a_wrong_type_are_refused_before_the_model_runs(kind):
    def never(*args):
        raise AssertionError("the model ran")

    net = Chain()
    net.forward = never
    inputs, words = WRONG[kind]
    with pytest.raises(InputError, match=words):
        explain(net, inputs, layers="body", registry=registry())


@pytest.mark.parametrize("size", [(0, 10), (7, 0), (0, 0)])
def test_an_image_of_no_size_is_refused(size):
    x = torch.zeros(2, 3, *size, dtype=torch.float64)
    with pytest.raises(InputError, match="nothing to look at"):
        explain(Chain(), x, layers="body", registry=registry())


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_without_batch_axis_is_refused_with_the_remedy(dims):
    with pytest.raises(InputError, match=r"has shape \[3, .*x\[None\]"):
        explain(Chain(dims), images(1, dims)[0], layers="body", registry=registry())


@pytest.mark.parametrize(("model", "image"), [(2, 3), (2, 1), (3, 2), (1, 2), (1, 3), (3, 1)])
def test_an_image_of_another_dimension_than_the_model_is_refused(model, image):
    x = images(2, image)
    with pytest.raises(InputError, match=rf"{x.ndim} axes.*works on {model + 2} axes"):
        explain(Chain(model), x, layers="body", registry=registry())


def test_an_image_and_a_model_of_different_precision_are_both_named():
    with pytest.raises(InputError, match=r"image is torch.float32, the model torch.float64"):
        explain(Chain(), images(dtype=torch.float32), layers="body", registry=registry())


def test_an_image_and_a_model_on_different_devices_are_both_named():
    with pytest.raises(InputError, match="image is on cpu, the model on meta"):
        explain(Chain().to("meta"), images(), layers="body", registry=registry())


def test_an_error_of_the_model_itself_reaches_the_caller_unchanged():
    class Broken(Chain):
        def finish(self, a):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        explain(Broken(), images(), layers="body", registry=registry())
