"""Analytic oracles: closed forms and identities that need no second implementation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from perturbation_proof import reference as paper
from perturbation_proof.checks import (
    Look,
    assert_different,
    assert_equal,
    assert_live,
    distance,
    method_class,
    raw,
    weights,
)
from perturbation_proof.networks import (
    CHANNELS,
    SIZES,
    DeepNet,
    GapNet,
    Given,
    Seen,
    Split,
    TwoLayers,
    WillingNet,
    images,
    parts,
)
from torch import Tensor, nn

from camkit_core import CapabilityError, Capture, Need, explain

EXACT = 1e-12
CLASSES = [2, 0]
DIMS = pytest.mark.parametrize("dims", [1, 2, 3], ids=["1d", "2d", "3d"])


@pytest.fixture(params=["certificate", "tail"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Closed forms from the certificate, or every row through the tail."""
    if request.param == "tail":
        monkeypatch.setattr(Capture, "affine", None)
    return str(request.param)


def affine(capture: Capture) -> bool:
    """Whether the score was certified."""
    return capture.affine is not None


# --- affine scores ---------------------------------------------------------------------------


class FlatNet(Split):
    """One linear layer on the flattened activations: its own weight per position."""

    def build(self) -> None:
        cells = int(np.prod([-(-n // 2) for n in SIZES[self.dims]]))
        self.fc = nn.Linear(CHANNELS * cells, 4)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(a.flatten(1))


def test_the_certificate_holds_where_these_tests_count_on_it() -> None:
    for net, expected in ((GapNet(), True), (FlatNet(), True), (DeepNet(), False)):
        look = Look(Need.ACTIVATIONS | Need.TAIL, affine)
        explain(net, images(2), method=look, target=1, layers="features")
        assert look.seen is expected


@DIMS
@pytest.mark.parametrize("name", ["ablationcam", "channelshapley"])
def test_gap_head_has_a_closed_form(name: str, dims: int, way: str) -> None:
    """`w_k = W_ck mean(A_k)` is the drop and the exact Shapley value."""
    net, x = GapNet(dims, seed=1), images(2, dims)
    expected = net.fc.weight.detach()[CLASSES] * net.features(x).detach().flatten(2).mean(-1)
    assert_equal(weights(net, x, method_class(name)(), CLASSES), expected, EXACT)


@DIMS
def test_liftcam_of_a_gap_head(dims: int) -> None:
    """DeepLIFT's contributions are the same closed form."""
    net, x = GapNet(dims, seed=1), images(2, dims)
    expected = net.fc.weight.detach()[CLASSES] * net.features(x).detach().flatten(2).mean(-1)
    assert_equal(weights(net, x, method_class("liftcam")(), CLASSES), expected, EXACT)


@DIMS
@pytest.mark.parametrize("gaussian", [False, True])
def test_reciprocam_of_a_gap_head_is_hirescam_and_the_bias(
    dims: int, gaussian: bool, way: str
) -> None:
    net, x = GapNet(dims, seed=1), images(2, dims)
    a = net.features(x).detach()
    w = net.fc.weight.detach()[CLASSES].reshape(2, CHANNELS, *(1,) * dims)
    hires = (w * a).sum(1) / a[0, 0].numel()
    if gaussian:
        for axis in range(1, dims + 1):
            rows = torch.eye(hires.shape[axis], dtype=hires.dtype)
            rows = rows / 2 + rows.roll(1, 0).tril() / 4 + rows.roll(-1, 0).triu() / 4
            hires = (hires.movedim(axis, -1) @ rows.T).movedim(-1, axis)
    expected = hires + net.fc.bias.detach()[CLASSES].reshape(-1, *(1,) * dims)
    assert_equal(raw(net, x, f"reciprocam:gaussian={gaussian}", CLASSES), expected, EXACT)


@pytest.mark.parametrize(
    "spec", ["ablationcam", "ablationcam:variant=paper", "ablationcam:variant=grad-cam"]
)
@pytest.mark.parametrize("signed", [False, True])
def test_both_ways_give_one_map(spec: str, signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = FlatNet(seed=3, signed=signed), images(2)
    certified = raw(net, x, spec, CLASSES)
    monkeypatch.setattr(Capture, "affine", None)
    # The library's -1e7 leaves few digits of the drop in the sums behind it.
    assert_equal(raw(net, x, spec, CLASSES), certified, 1e-8 if "grad-cam" in spec else EXACT)


# --- LIFT-CAM --------------------------------------------------------------------------------


class UnitNet(Split):
    """One ReLU unit on the pooled activations: its bias lies on the other side of the kink."""

    def build(self) -> None:
        self.unit, self.fc = nn.Linear(CHANNELS, 1), nn.Linear(1, 4)

    def tail(self, a: Tensor) -> Tensor:
        return self.fc(torch.relu(self.unit(a.flatten(2).mean(-1))))


@DIMS
def test_liftcam_of_one_unit_by_hand(dims: int) -> None:
    """`w_k = v (relu(s + b) - relu(b)) / s * u_k mean(A_k)` with `s = sum_k u_k mean(A_k)`."""
    net, x = UnitNet(dims, seed=1), images(2, dims)
    net.unit.weight.data.abs_()
    net.unit.bias.data.fill_(-0.01)
    means = net.features(x).detach().flatten(2).mean(-1)
    parts = net.unit.weight.detach() * means
    total = parts.sum(1, keepdim=True)
    assert (total > 0.02).all()
    slope = (total - 0.01) / total
    expected = net.fc.weight.detach()[CLASSES] * slope * parts
    assert_equal(weights(net, x, method_class("liftcam")(), CLASSES), expected, EXACT)
    # The unit is shut without the channels; the gradient would overstate every one of them.
    assert_different(net.fc.weight.detach()[CLASSES] * parts, expected)


def test_liftcam_of_one_channel_is_its_shapley_value_on_any_tail() -> None:
    """With nothing to share there is one fair answer."""

    class OneChannel(Split):
        def build(self) -> None:
            self.features = nn.Sequential(self.features, nn.Conv2d(CHANNELS, 1, 1), nn.ReLU())
            self.mix, self.fc = nn.Conv2d(1, 5, 3, padding=1), nn.Linear(5, 4)

        def tail(self, a: Tensor) -> Tensor:
            return self.fc(nn.functional.silu(self.mix(a)).flatten(2).mean(-1))

    net, x = OneChannel(seed=2), images(2)
    # A single number per image is no map to look at, so the check for life does not fit.
    lift = weights(net, x, method_class("liftcam")(), CLASSES)
    exact = weights(net, x, method_class("channelshapley")(), CLASSES)
    torch.testing.assert_close(lift, exact, rtol=1e-10, atol=0)


@DIMS
@pytest.mark.parametrize("net", [GapNet, DeepNet, TwoLayers], ids=lambda net: net.__name__)
@pytest.mark.parametrize("signed", [False, True])
def test_liftcam_shares_out_the_score(net: type[Split], dims: int, signed: bool) -> None:
    model, x = net(dims, signed=signed, seed=4), images(2, dims)
    w = weights(model, x, method_class("liftcam")(), CLASSES)
    nothing = model.tail(torch.zeros_like(model.features(x))).detach()
    total = (model(x).detach() - nothing)[range(2), CLASSES]
    torch.testing.assert_close(w.sum(1), total, rtol=1e-10, atol=1e-12)
    assert_live(w)


def test_liftcam_adds_up_over_scores_that_are_linear_in_the_logits() -> None:
    net, x = DeepNet(seed=4, signed=True), images(2)
    apart = raw(net, x, "liftcam", 2) - 3 * raw(net, x, "liftcam", 0)
    assert_equal(raw(net, x, "liftcam", lambda out: out[2] - 3 * out[0] + 1), apart, 1e-10)


def test_liftcam_refuses_what_has_no_rule_and_says_what_to_take() -> None:
    class NormedNet(GapNet):
        def tail(self, a: Tensor) -> Tensor:
            return super().tail(nn.functional.layer_norm(a, a.shape[1:]))

    with pytest.raises(
        CapabilityError, match=r"at layer 'features': behind it comes layer norm.*channelshapley"
    ):
        raw(NormedNet(), images(1), "liftcam")


# --- Ablation-CAM, the whole model -----------------------------------------------------------


@DIMS
@pytest.mark.parametrize("net", [GapNet, DeepNet, TwoLayers], ids=lambda net: net.__name__)
@pytest.mark.parametrize("signed", [False, True])
def test_ablation_is_the_brute_force_loop(net: type[Split], dims: int, signed: bool) -> None:
    """Replace the channel by a hook, run the whole model, image by image."""
    model, x = net(dims, signed=signed, seed=4), images(2, dims)
    expected = torch.zeros(2, CHANNELS, dtype=torch.float64)
    for image, c in enumerate(CLASSES):
        for channel in range(CHANNELS):

            def zero(
                module: nn.Module, args: object, output: Tensor, channel: int = channel
            ) -> Tensor:
                changed = output.clone()
                changed[:, channel] = 0
                return changed

            with torch.no_grad():
                clean = model(x[image : image + 1])[0, c]
                handle = model.features.register_forward_hook(zero)
                expected[image, channel] = clean - model(x[image : image + 1])[0, c]
                handle.remove()
    assert_equal(weights(model, x, method_class("ablationcam")(), CLASSES), expected)


def test_ratio_keeps_each_of_the_strongest_channels_once() -> None:
    """Neither twice as many nor duplicates: the others weigh nothing."""
    net, x = DeepNet(seed=4, signed=True), images(2)
    whole = weights(net, x, method_class("ablationcam")(), CLASSES)
    energy = net.features(x).detach().square().flatten(2).sum(2)
    for ratio, kept in ((0.01, 1), (0.3, 2), (0.5, 3), (0.6, 4), (1.0, 6)):
        part = weights(net, x, method_class("ablationcam")(ratio=ratio), CLASSES)
        strongest = energy.argsort(1, descending=True)[:, :kept]
        assert ((part != 0).sum(1) == kept).all()
        torch.testing.assert_close(part.gather(1, strongest), whole.gather(1, strongest))


def test_a_negative_score_turns_the_papers_map_around_but_not_the_drop() -> None:
    net, x = DeepNet(seed=4), images(1)
    plain = {v: raw(net, x, f"ablationcam:variant={v}") for v in ("drop", "paper")}
    score = float(explain(net, x, method="ablationcam", target=1, layers="features").score)
    net.fc.bias.data -= 2 * score
    moved = {v: raw(net, x, f"ablationcam:variant={v}") for v in ("drop", "paper")}
    assert_equal(moved["drop"], plain["drop"], 1e-10)
    assert_equal(moved["paper"], -plain["paper"], 1e-10)


# --- Score-CAM and what reduces to it --------------------------------------------------------

NETWORK = pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
REDUCED = [
    f"gscorecam:top={CHANNELS}",
    "gscorecam:top=1000",
    f"clustercam:groups={CHANNELS},select=all",
    f"clustercam:groups={CHANNELS},select=all,clustering=spectral",
    "iscam:steps=1",
    "sscam:std=0,samples=2",
    "sscam:std=0,samples=2,variant=input",
]


@DIMS
@NETWORK
@pytest.mark.parametrize("spec", REDUCED)
def test_reduces_to_scorecam(spec: str, dims: int, signed: bool) -> None:
    net, x = DeepNet(dims, signed=signed, seed=5), images(2, dims)
    assert_equal(raw(net, x, spec, CLASSES), raw(net, x, "scorecam", CLASSES), 1e-10)


@DIMS
def test_groupcam_of_every_channel_is_the_score_form(dims: int) -> None:
    """One channel per group: weights are Score-CAM's, behind a positive gradient."""
    net, x = GapNet(dims, seed=5), images(2, dims)
    net.fc.weight.data.abs_()
    w = weights(net, x, method_class("scorecam")(normalize="relu"), CLASSES)
    expected = []
    for part, mine in zip(parts(net, x, CLASSES), w, strict=True):
        masks = np.array([paper.mask(channel, part.x.shape[1:]) for channel in part.a])
        expected.append(paper.weighted_sum(mine.numpy(), masks))
    spec = f"groupcam:groups={CHANNELS},denoise=0,fill=zero,normalize=relu"
    assert_equal(raw(net, x, spec, CLASSES), np.stack(expected))
    assert_equal(raw(net, x, spec.replace("=6", "=50"), CLASSES), np.stack(expected))


# --- several layers --------------------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("variant", ["plus", "minus", "both", "gradient"])
def test_polycam_refines_the_coarse_map_by_the_fine_one(variant: str, dims: int) -> None:
    net, x = willing(TwoLayers(dims, seed=9)), images(2, dims, seed=1)
    name = "polygradcam" if variant == "gradient" else f"polycam:variant={variant}"
    expected = []
    for image, part, c in zip(x, parts(net, x, CLASSES), CLASSES, strict=True):
        deep = net.deep(net.features(image[None])).detach()
        leaf = deep.clone().requires_grad_()
        behind = net.fc(nn.functional.softplus(leaf).flatten(2).mean(-1))[0, c]
        (gradient,) = torch.autograd.grad(behind, leaf)
        maps = []
        for a, g in ((deep[0].numpy(), gradient[0].numpy()), (part.a, part.g)):
            if variant == "gradient":
                w = np.array([channel.mean() for channel in g])
            else:
                w = paper.poly_weights(a, part.x, part.f, variant)
            maps.append(paper.weighted_sum(w, a))
        expected.append(paper.refine(maps))
    for order in (["features", "deep"], ["deep", "features"]):
        assert_equal(raw(net, x, name, CLASSES, layer=order), np.stack(expected))


def willing(net: TwoLayers) -> TwoLayers:
    """More activation, more score, so that no weight is cut off."""
    net.fc.weight.data.abs_()
    net.deep[0].weight.data += 0.2
    return net


# --- Opti-CAM --------------------------------------------------------------------------------


@DIMS
@pytest.mark.parametrize("rate", [0.1, 30.0])
def test_opticam_is_never_below_its_start(dims: int, rate: float) -> None:
    """Not even with steps that are far too long."""
    method = method_class("opticam")
    for seed in range(4):
        net, x = DeepNet(dims, seed=seed), images(2, dims, seed=seed)
        start, end = (
            seen(net, x, weights(net, x, method(steps=steps, rate=rate), CLASSES))
            for steps in (1, 25)
        )
        assert (end >= start).all()
        if rate == 0.1:
            assert (end > start).all()


def seen(net: Split, x: Tensor, w: Tensor) -> Tensor:
    """Score of each image through its own map."""
    result = []
    for part, mine in zip(parts(net, x, CLASSES), w, strict=True):
        m = paper.mask(paper.weighted_sum(mine.numpy(), part.a), part.x.shape[1:])
        result.append(part.f(part.x * m))
    return torch.tensor(result)


def test_opticam_finds_the_best_mixture_of_two_channels() -> None:
    """As good as a fine search over all mixtures."""
    size = (5, 6)
    net = Given(2, size, seed=4)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)

    def score(share: float) -> float:
        picture = share * x[0, 0].numpy() + (1 - share) * x[0, 1].numpy()
        with torch.no_grad():
            return float(net(x * torch.from_numpy(paper.unit(picture)))[0, 1])

    shares = [score(share) for share in np.linspace(0, 1, 400)]
    w = weights(net, x, method_class("opticam")(steps=200), 1)
    assert max(shares) - min(shares) > 1e-2
    assert score(float(w[0, 0])) >= max(shares) - 1e-3 * (max(shares) - min(shares))


# --- input space -----------------------------------------------------------------------------


def test_rise_estimates_the_mean_over_all_masks() -> None:
    """Every mask of a 2 x 2 grid at every place, weighted by its probability."""
    size, p, count = (4, 4), 0.6, 4000
    net, x = DeepNet(seed=3), images(1, size=size)
    part = parts(net, x, [1])[0]
    terms, chances = [], []
    for cells in product((0.0, 1.0), repeat=4):
        chance = np.prod([p if cell else 1 - p for cell in cells]) / 4
        for start in product(range(2), repeat=2):
            m = paper.rise_mask(np.array(cells).reshape(2, 2), start, size)
            terms.append(part.f(part.x * m) * m / p)
            chances.append(chance)
    mean = np.einsum("i,ijk->jk", chances, np.array(terms))
    spread = np.sqrt(np.einsum("i,ijk->jk", chances, (np.array(terms) - mean) ** 2) / count)
    ours = raw(net, x, f"rise:masks={count},grid=2,p={p}", batch_size=200)[0].numpy()
    assert abs(mean).max() > 20 * spread.max()
    assert (abs(ours - mean) / spread).max() < 5
    # The spread is not overstated: some pixel is off by a fair part of it.
    assert (abs(ours - mean) / spread).max() > 0.1


@DIMS
def test_occlusion_of_an_additive_score_is_its_terms(dims: int) -> None:
    net, x = Seen(SIZES[dims], seed=2), images(2, dims)
    terms = (net.fc.weight.detach()[CLASSES].reshape(x.shape) * x).sum(1)
    assert_equal(raw(net, x, "occlusion:window=1,stride=1", CLASSES, layer=None), terms, EXACT)


# --- Shapley values by sampling --------------------------------------------------------------


class QuadraticNet(GapNet):
    """`y = b z + z Q z` of the pooled activations."""

    def build(self) -> None:
        super().build()
        self.square = nn.Parameter(torch.zeros(4, CHANNELS, CHANNELS))

    def tail(self, a: Tensor) -> Tensor:
        z = a.flatten(2).mean(-1)
        return self.fc(z) + torch.einsum("nk,ckl,nl->nc", z, self.square, z)


SAMPLED = {"exact": 0}


def test_orders_with_their_reverse_are_exact_for_pairs_of_channels() -> None:
    net, x = QuadraticNet(seed=2, signed=True), images(2)
    sampled = weights(net, x, method_class("channelshapley")(orders=2, **SAMPLED), CLASSES)
    expected = [paper.channel_shapley(part.a, part.y) for part in parts(net, x, CLASSES)]
    assert_equal(sampled, np.stack(expected), 1e-10)


def test_sampled_values_are_unbiased_and_say_their_error() -> None:
    net, x, method = DeepNet(seed=2, signed=True), images(2), method_class("channelshapley")
    exact = weights(net, x, method(), CLASSES)
    runs = torch.stack(
        [weights(net, x, method(orders=4, **SAMPLED), CLASSES, seed=seed) for seed in range(40)]
    )
    error = runs.std(0) / 40**0.5
    assert ((runs.mean(0) - exact).abs() / error).max() < 5
    assert distance(runs[0], exact) > 1e-6
    explanation = explain(
        net, x, method=method(orders=4, **SAMPLED), target=CLASSES, layers="features"
    )
    (issue,) = explanation.issues
    assert issue.code == "sampled"
    assert "standard error" in issue.message
    plain = explain(net, x, method=method(), target=CLASSES, layers="features")
    assert not plain.issues


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["exact", "sampled"])
def test_shapley_values_share_out_the_score(options: dict[str, int]) -> None:
    net, x = DeepNet(seed=2, signed=True), images(2)
    w = weights(net, x, method_class("channelshapley")(**options), CLASSES)
    nothing = net.tail(torch.zeros_like(net.features(x))).detach()
    total = (net(x).detach() - nothing)[range(2), CLASSES]
    torch.testing.assert_close(w.sum(1), total, rtol=1e-10, atol=0)
    assert_live(w)


# --- controls --------------------------------------------------------------------------------


def test_variants_are_not_the_same_method() -> None:
    """The comparisons above would see a variant that is ignored."""
    net, x = WillingNet(seed=3, signed=True), images(2)
    maps = [
        raw(net, x, f"scorecam:variant={v}", CLASSES)
        for v in ("paper", "authors", "grad-cam", "torchcam")
    ]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert_different(one, other)
