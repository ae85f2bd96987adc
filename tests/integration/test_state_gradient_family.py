"""The real gradient family in every mode a model can be in: the right map, and nothing changed."""

from __future__ import annotations

import gc
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from camkit_core import (
    CamkitError,
    CaptureError,
    ClassTarget,
    Explainer,
    LayerError,
    NonFiniteError,
    TargetError,
    compare,
    default_registry,
    explain,
)

from .state_helpers import FAMILY, Net, alone, close, family, pictures, same, telling, unchanged

FIXED = {"fakecam", "gaussian", "sobel"}  # do not depend on the layer
RANDOM = {"random"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ask(net, x, name, target=1, layers=None, **words):
    return explain(net, x, name, target, layers or alone(name), **words)


def plain(name, **words):
    """The answer of an ordinary model, after checking that it shows something."""
    found = ask(Net(), pictures(), name, **words)
    for raw in found.raw.values():
        telling(raw)
    return found


def equal(found, wanted, name, relative=1e-9):
    assert list(found.raw) == list(wanted.raw)
    for layer in wanted.raw:
        close(found.raw[layer], wanted.raw[layer], relative)


class OwnNoGrad(Net):
    def finish(self, z):
        with torch.no_grad():
            return super().finish(z)


class Decorated(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Boxed(Net):
    def finish(self, z):
        return {"logits": super().finish(z), "features": z}


class Tupled(Net):
    def finish(self, z):
        return super().finish(z), [z]


TWINS = {
    "frozen": lambda: Net().requires_grad_(False),
    "training mode": lambda: Net().train(),
    "in-place ReLU": lambda: Net(inplace=True),
    "own no_grad": OwnNoGrad,
    "decorated with no_grad": Decorated,
    "a dictionary": Boxed,
    "data parallel": lambda: nn.DataParallel(Net()),
    "channels last": lambda: Net().to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_kind_of_model_gives_the_map_of_the_plain_one(name, twin):
    net, x = TWINS[twin](), pictures()
    with unchanged(net, x):
        found = ask(net, x, name)
    equal(found, plain(name), name)


@pytest.mark.parametrize("name", FAMILY)
def test_a_tuple_output_is_explained_by_its_index(name):
    equal(ask(Tupled(), pictures(), name, output=0), plain(name), name)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad": torch.enable_grad,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILY)
def test_the_callers_mode_changes_nothing(name, mode):
    net, x = Net(), pictures()
    with MODES[mode](), unchanged(net, x):
        found = ask(net, x, name)
    equal(found, plain(name), name, 0)


@pytest.mark.parametrize("name", FAMILY)
def test_an_input_made_under_inference_mode_changes_nothing(name):
    with torch.inference_mode():
        x = pictures()
    equal(ask(Net(), x, name), plain(name), name, 0)


@pytest.mark.parametrize("name", FAMILY)
def test_a_strided_input_changes_nothing(name):
    x = pictures().to(memory_format=torch.channels_last)
    equal(ask(Net(), x, name), plain(name), name)


class Boom(Exception):
    pass


class Explosive(Net):
    def finish(self, z):
        raise Boom


@pytest.mark.parametrize("where", ["model", "target"])
@pytest.mark.parametrize("name", FAMILY)
def test_nothing_is_changed_when_model_or_target_raise(name, where):
    class Bomb(ClassTarget):
        def bind(self, output, run):
            raise Boom

    net, x = (Explosive() if where == "model" else Net()).train(), pictures()
    target = Bomb(1) if where == "target" else 1
    with unchanged(net, x), pytest.raises(Boom):
        ask(net, x, name, target)


@pytest.mark.parametrize("name", FAMILY)
def test_a_batch_is_its_images_one_by_one(name):
    net, x = Net(), pictures(4)
    targets = Net()(x).argmax(1).tolist()
    together = ask(net, x, name, targets)
    order = [2, 0, 3, 1]
    permuted = ask(net, x[order], name, [targets[row] for row in order])
    for layer, raw in together.raw.items():
        if name in RANDOM:
            continue
        close(permuted.raw[layer], raw[order], 1e-9)
        for row in range(4):
            single = ask(net, x[row : row + 1], name, targets[row])
            close(single.raw[layer], raw[row : row + 1], 1e-9)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", FAMILY)
def test_one_and_three_dimensional_models_are_explained(name, dims):
    net, x = Net(dims), pictures(2, dims)
    with unchanged(net, x):
        found = ask(net, x, name)
    assert found.maps.shape == (2, *x.shape[2:])
    for raw in found.raw.values():
        telling(raw)


@pytest.mark.parametrize("name", FAMILY)
def test_the_same_call_twice_is_bit_for_bit_the_same(name):
    net, x = Net(), pictures()
    first = ask(net, x, name, seed=3)
    ask(net, pictures(seed=9), name, 4)
    again = ask(net, x, name, seed=3)
    for layer in first.raw:
        same(again.raw[layer], first.raw[layer])
    if name in RANDOM:
        assert not torch.equal(ask(net, x, name, seed=4).maps, first.maps)


def reads_layers(name):
    (entry,) = [entry for entry in family() if entry.name == name]
    return bool(entry.needs)


@pytest.mark.parametrize("name", [name for name in FAMILY if reads_layers(name)])
def test_autocast_is_close_to_float32(name):
    net, x = Net().float(), pictures().float()
    wanted = ask(net, x, name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ask(net, x, name)
    assert found.output.dtype == torch.bfloat16
    for layer, raw in found.raw.items():
        assert raw.dtype == torch.float32
        if name in RANDOM:
            continue
        pairs = zip(telling(raw).flatten(1), telling(wanted.raw[layer]).flatten(1), strict=True)
        for mine, reference in pairs:
            correlation = float(torch.corrcoef(torch.stack([mine, reference]))[0, 1])
            assert correlation > 0.95, layer


@pytest.mark.parametrize("name", FAMILY)
def test_a_compiled_model_gives_the_same_map(name):
    net, x = Net(), pictures()
    compiled = torch.compile(net, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled(x)
    equal(ask(compiled, x, name), plain(name), name, 0)


@pytest.mark.parametrize("name", FAMILY)
def test_bad_input_is_refused(name):
    x = pictures()
    broken = x.clone()
    broken[1, 0, 2, 2] = torch.nan
    for inputs, target, layers, error in (
        (broken, 1, None, NonFiniteError),
        (x, 99, None, TargetError),
        (x, -1, None, TargetError),
        (x, [1, 2], None, TargetError),
        (x, True, None, TargetError),
    ):
        with pytest.raises(error):
            ask(Net(), inputs, name, target, layers)
    with pytest.raises(LayerError, match="did you mean 'late'"):
        ask(Net(), x, name, 1, "lat")


class Twice(Net):
    def forward(self, x):
        z = self.mid(self.mid(self.stem(x)).relu())
        return self.finish(self.late(z))


@pytest.mark.parametrize("name", [name for name in FAMILY if reads_layers(name) and name != "cam"])
def test_a_reused_layer_must_be_named_with_its_call(name):
    net, x = Twice(), pictures()
    with pytest.raises(CaptureError, match="'mid' ran 2 times"):
        ask(net, x, name, 1, "mid")
    found = ask(net, x, name, 1, ["mid#0", "mid#1"])
    if name not in FIXED | RANDOM:
        assert not torch.equal(telling(found.raw["mid#0"]), telling(found.raw["mid#1"]))


class Spoiled(Net):
    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.mid.weight[0] = torch.inf


@pytest.mark.parametrize("name", [n for n in FAMILY if reads_layers(n) and n not in RANDOM | FIXED])
def test_a_model_that_is_not_finite_is_refused_with_the_layer(name):
    with pytest.raises(CamkitError) as caught:
        ask(Spoiled(), pictures(), name)
    assert isinstance(caught.value, NonFiniteError)
    assert "'mid'" in str(caught.value)


def discriminative():
    return [entry.name for entry in family() if entry.class_discriminative]


@pytest.mark.parametrize("name", discriminative())
def test_a_class_without_weights_has_an_empty_map_and_says_so(name):
    net, x = Net(), pictures()
    with torch.no_grad():
        net.head.weight[3] = 0
        net.head.bias[3] = 0
    found = ask(net, x, name, 3)
    codes = {issue.code for issue in found.issues}
    assert codes, found
    assert codes <= {"all_zero", "constant"}
    assert torch.count_nonzero(found.maps) == 0


def test_all_methods_together_are_what_each_is_alone_for_one_forward():
    net, x, targets = Net(), pictures(), [1, [0, 4, 2]]
    with unchanged(net, x):
        together = compare(net, x, FAMILY, targets, "late")
    for (name, position), found in together.items():
        wanted = ask(net, x, name, targets[position], "late")
        for layer in wanted.raw:
            close(found.raw[layer], wanted.raw[layer], 1e-10)
        assert found.provenance.forwards == 1


def test_first_order_methods_share_one_backward():
    first = [entry.name for entry in family() if "second_order" not in entry.needs]
    found = compare(Net(), pictures(), first, [1], ["late"])
    assert {e.provenance.forwards for e in found.values()} == {1}
    assert {e.provenance.backwards for e in found.values()} == {1}


@pytest.mark.parametrize("train", [False, True])
def test_threads_give_the_maps_of_one_thread(train):
    net = Net().train(train)

    def call(index):
        name = FAMILY[index % len(FAMILY)]
        found = ask(net, pictures(2, seed=index), name, index % 6, seed=index)
        return [found.raw[layer] for layer in found.raw]

    jobs = range(3 * len(FAMILY))
    alone_ = [call(index) for index in jobs]
    with unchanged(net), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, jobs))
    for one, other in zip(alone_, together, strict=True):
        for a, b in zip(one, other, strict=True):
            same(b, a)


@pytest.mark.parametrize("name", FAMILY)
def test_methods_come_back_from_a_pickle_and_answer_the_same(name):
    method = default_registry().resolve("method", name)()
    copied = pickle.loads(pickle.dumps(method))
    assert copied == method
    one, two = (
        explain(Net(), pictures(), m, 1, alone(name), seed=2).maps for m in (method, copied)
    )
    same(one, two)


def test_hundreds_of_calls_leave_nothing_behind():
    net, x = Net(), pictures(2)
    explainer = Explainer(net, "late")

    def live():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    for name in FAMILY:
        explainer.explain(x, name, 1)
    before = live()
    for index in range(12 * len(FAMILY)):
        explainer.explain(x, FAMILY[index % len(FAMILY)], index % 6)
    assert live() == before


@pytest.mark.parametrize("name", FAMILY)
def test_an_empty_batch_is_an_empty_answer(name):
    found = ask(Net(), pictures()[:0], name)
    assert found.maps.shape == (0, *pictures().shape[2:])
    assert found.issues == ()
