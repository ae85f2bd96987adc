"""Explainers, methods and explanations go to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from core_proof.checks import same, telling
from core_proof.methods import GradCAM, HiRes, registry
from core_proof.networks import Chain, images
from core_proof.remote import work

from camkit_core import Explainer, Provenance, TargetInfo, explain

METHODS = [GradCAM(), HiRes(gain=2.5, rectify=True)]


def again(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_comes_back_equal_and_works_the_same(method):
    copied, net, x = again(method), Chain(), images()
    assert copied == method
    assert hash(copied) == hash(method)
    one, two = (explain(net, x, m, 1, "body", registry=registry()) for m in (method, copied))
    same(one.maps, two.maps)


def test_methods_with_different_options_are_different():
    assert HiRes(gain=1.0) != HiRes(gain=2.0)
    assert len({HiRes(), HiRes(), HiRes(gain=2.0)}) == 2


@pytest.mark.parametrize("layers", ["body", ["stem", "neck"], None], ids=str)
def test_an_explainer_comes_back_and_explains_the_same(layers):
    explainer = Explainer(Chain(), layers)
    copied = again(explainer)
    assert copied.model is not explainer.model
    x = images()
    one, two = (e.explain(x, HiRes(), 1) for e in (explainer, copied))
    assert list(one.raw) == list(two.raw)
    same(one.maps, two.maps)
    telling(one.maps)


def test_an_explainer_with_a_registry_of_its_own_comes_back_with_the_processes_own():
    explainer = Explainer(Chain(), "body", registry=registry())
    copied = again(explainer)
    x = images()
    same(copied.explain(x, HiRes(), 1).maps, explainer.explain(x, HiRes(), 1).maps)


def test_a_copied_explainer_explains_its_own_copy_of_the_model():
    explainer = Explainer(Chain(), "body")
    copied = copy.deepcopy(explainer)
    with torch.no_grad():
        copied.model.body.weight.mul_(-1)
    x = images()
    found, original = copied.explain(x, HiRes(), 1), explainer.explain(x, HiRes(), 1)
    assert not torch.equal(found.maps, original.maps)
    same(found.maps, explain(copied.model, x, HiRes(), 1, "body").maps)


def test_an_explanation_comes_back_whole():
    found = explain(Chain(), images(), HiRes(), [1, 3], ["stem", "body"], registry=registry())
    copied = again(found)
    same(copied.maps, found.maps)
    assert list(copied.raw) == list(found.raw)
    for layer in found.raw:
        same(copied.raw[layer], found.raw[layer])
    assert copied.provenance == found.provenance
    assert copied.target.labels == found.target.labels == ("class 1", "class 3")
    assert copied.issues == found.issues
    with pytest.raises(TypeError):
        copied.raw["body"] = found.maps
    assert isinstance(copied.provenance, Provenance)
    assert isinstance(copied.target, TargetInfo)


@pytest.mark.slow
def test_a_spawned_process_gives_the_same_maps():
    explainer = Explainer(Chain().train(), "body")
    jobs = [(explainer, HiRes(gain=2.0), images(seed=seed), seed % 5) for seed in range(4)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        results = list(pool.map(work, jobs))
    for job, found in zip(jobs, results, strict=True):
        wanted = work(job)
        same(found.maps, telling(wanted.maps))
        same(found.raw["body"], wanted.raw["body"])
