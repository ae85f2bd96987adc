"""What a capture offers equals a manual computation on the two halves of a network."""

from __future__ import annotations

import pytest
import torch
from core_proof.checks import close
from core_proof.methods import registry, spy
from core_proof.networks import Chain, gradcam, images, of_class, split

from camkit_core import INPUT, CapabilityError, Need, TensorRows, explain

AT_LAYER = Need.ACTIVATIONS | Need.GRADIENTS


def seen(net, x, needs, look, **words):
    """What `look(capture)` returned inside one call."""
    found = []

    def method(capture):
        found.append(look(capture))
        return capture.inputs.mean(1)

    words.setdefault("layers", "body")
    explain(net, x, spy(method, needs), registry=registry(), **words)
    return found


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("layer", Chain.order)
def test_activations_and_gradients_equal_the_split_network(dims, layer):
    net, x = Chain(dims), images(3, dims)
    ((found_a, found_g),) = seen(
        net, x, AT_LAYER, lambda c: (c.activations, c.gradients), target=2, layers=layer
    )
    wanted_a, wanted_g = split(net, x, layer, of_class(2))
    close(found_a, wanted_a)
    close(found_g, wanted_g)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradcam_equals_its_formula_on_the_split_network(dims):
    net, x = Chain(dims, seed=3), images(2, dims, seed=3)
    explanation = explain(net, x, target=[4, 1], layers="body", registry=registry())
    wanted = gradcam(*split(net, x, "body", of_class([4, 1])))
    close(explanation.raw["body"], wanted)


def test_what_a_capture_hands_out_has_no_graph_and_is_not_written_to():
    net, x = Chain(), images()
    ((a, g, i, s),) = seen(
        net,
        x,
        AT_LAYER | Need.INPUT_GRADIENTS,
        lambda c: (c.activations, c.gradients, c.input_gradients, c.score),
    )
    assert not any(t.requires_grad for t in (a, g, i, s))


def test_the_default_target_is_the_class_of_the_largest_logit_of_each_image():
    net, x = Chain(seed=1), images(6, seed=1)
    output = net(x).detach()
    best = output.argmax(1)
    assert len(set(best.tolist())) > 1, "all images have one class: the test shows nothing"
    explanation = explain(net, x, layers="body", registry=registry())
    assert torch.equal(explanation.target.classes, best)
    assert torch.equal(explanation.score, output.amax(1))
    close(explanation.raw["body"], gradcam(*split(net, x, "body", of_class(best.tolist()))))


def test_the_score_and_the_output_are_those_of_the_model():
    net, x = Chain(), images(4)
    explanation = explain(net, x, target=3, layers="neck", registry=registry())
    wanted = net(x).detach()
    assert torch.equal(explanation.output, wanted)
    assert torch.equal(explanation.score, wanted[:, 3])


def test_the_hessian_product_equals_double_backward_on_the_split_network():
    net, x, generator = Chain(), images(2), torch.Generator().manual_seed(7)
    leaf = net.until("body", x).detach().requires_grad_()
    vector = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    score = net.after("body", leaf)[:, 1].sum()
    (gradient,) = torch.autograd.grad(score, leaf, create_graph=True)
    (wanted,) = torch.autograd.grad((gradient * vector).sum(), leaf)
    needs = AT_LAYER | Need.SECOND_ORDER
    ((found, again),) = seen(
        net, x, needs, lambda c: (c.hvp(vector), c.hvp(vector)), target=1, layers="body"
    )
    close(found, wanted)
    assert torch.equal(found, again)


def test_the_hessian_product_is_zero_behind_a_linear_tail_and_linear_in_its_vector():
    class LinearTail(Chain):
        def act(self, z):
            return z

    net, x = LinearTail(), images(2)
    ((zero,),) = seen(
        net, x, AT_LAYER | Need.SECOND_ORDER, lambda c: (c.hvp(torch.ones_like(c.activations)),)
    )
    assert torch.count_nonzero(zero) == 0
    one, two = (
        seen(Chain(), x, AT_LAYER | Need.SECOND_ORDER, lambda c, k=k: c.hvp(k * c.activations))[0]
        for k in (1.0, -2.5)
    )
    close(two, -2.5 * one)


def test_input_gradients_equal_plain_autograd():
    net, x = Chain(), images(3)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(of_class([0, 4, 2])(net(leaf)).sum(), leaf)
    explanation = explain(net, x, "saliency", target=[0, 4, 2], registry=registry())
    close(explanation.raw[INPUT], (wanted * x).sum(1))
    assert explanation.provenance.layers == ()


def test_layer_and_input_gradients_of_one_call_equal_those_of_two():
    net, x = Chain(), images(2)
    both = Need.INPUT_GRADIENTS | AT_LAYER
    ((found_g, found_i),) = seen(net, x, both, lambda c: (c.gradients, c.input_gradients), target=0)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)
    close(found_i, wanted)
    close(found_g, split(net, x, "body", of_class(0))[1])


def test_the_tail_equals_the_second_half_of_the_network():
    net, x = Chain(), images(3)
    activations = net.until("body", x).detach()
    owner = torch.tensor([2, 0, 0, 1, 2])
    generator = torch.Generator().manual_seed(0)
    changed = activations[owner] * torch.rand(
        5, *activations.shape[1:], generator=generator, dtype=x.dtype
    )
    wanted = net.after("body", changed).detach()
    classes = torch.tensor([1, 3, 0])
    (found,) = seen(
        net,
        x,
        Need.ACTIVATIONS | Need.TAIL,
        lambda c: c.tail(TensorRows(changed, owner)),
        target=classes.tolist(),
    )
    torch.testing.assert_close(
        found, wanted.gather(1, classes[owner][:, None])[:, 0], rtol=1e-12, atol=0
    )


def test_the_tail_of_the_unchanged_activations_is_the_score():
    net, x = Chain(), images(3)
    owner = torch.arange(3)
    ((tail, score),) = seen(
        net,
        x,
        Need.ACTIVATIONS | Need.TAIL,
        lambda c: (c.tail(TensorRows(c.activations, owner)), c.score),
    )
    torch.testing.assert_close(tail, score, rtol=1e-13, atol=0)


def test_scores_of_perturbed_images_equal_the_model_on_those_images():
    net, x = Chain(), images(2)
    owner = torch.tensor([1, 1, 0])
    rows = torch.stack([x[1] * 0.5, x[1].flip(-1), x[0] + 1])
    (found,) = seen(net, x, Need.SCORES, lambda c: c.scores(TensorRows(rows, owner)), target=[0, 4])
    wanted = net(rows).detach()
    expected = torch.stack([wanted[0, 4], wanted[1, 4], wanted[2, 0]])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_recapture_asks_the_same_classes_of_other_images():
    net, x = Chain(seed=1), images(4, seed=1)
    other = x.flip(-1) * 0.3 + 0.2
    classes, moved = net(x).argmax(1), net(other).argmax(1)
    assert bool((classes != moved).any()), "the classes stay anyway: the test shows nothing"
    needs = AT_LAYER | Need.RECAPTURE
    ((a, g, s),) = seen(
        net, x, needs, lambda c: (c.at(other).activations, c.at(other).gradients, c.at(other).score)
    )
    wanted_a, wanted_g = split(net, other, "body", of_class(classes.tolist()))
    close(a, wanted_a)
    close(g, wanted_g)
    torch.testing.assert_close(
        s, net(other).detach().gather(1, classes[:, None])[:, 0], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("need", "look"),
    [
        (Need.ACTIVATIONS, lambda c: c.activations),
        (Need.GRADIENTS, lambda c: c.gradients),
        (Need.SECOND_ORDER, lambda c: c.hvp(torch.zeros(1))),
        (Need.INPUT_GRADIENTS, lambda c: c.input_gradients),
        (Need.HEAD, lambda c: c.head),
        (Need.TAIL, lambda c: c.tail(TensorRows(torch.zeros(0), torch.zeros(0)))),
        (Need.SCORES, lambda c: c.scores(TensorRows(torch.zeros(0), torch.zeros(0)))),
        (Need.RECAPTURE, lambda c: c.at(torch.zeros(1))),
        (Need.LAYERS, lambda c: c["body"]),
        (Need.ATTENTION, lambda c: c.attention),
        (Need.GRAPH, lambda c: c.graph),
    ],
)
def test_what_a_method_did_not_declare_is_refused(need, look):
    others = (Need.ACTIVATIONS | Need.GRADIENTS | Need.SCORES) & ~need
    with pytest.raises(CapabilityError, match=rf"spy uses {need.words()[0]}.*Need\.{need.name}"):
        seen(Chain(), images(), others, look)


@pytest.mark.parametrize("need", [Need.GRAPH, Need.FIT])
def test_what_this_engine_cannot_capture_is_refused_before_the_model_runs(need):
    def never(x):
        raise AssertionError("the model ran")

    net = Chain()
    net.forward = never
    with pytest.raises(CapabilityError, match=f"spy needs {need.words()[0]}.*upgrade"):
        seen(net, images(), need, lambda c: None)
