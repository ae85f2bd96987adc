"""Shapley values of channels, by enumeration or by random orders."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from camkit_core import Capture, Claim, MethodModel, Need
from camkit_methods_perturbation.parts import positions, spread, weighted_sum
from camkit_methods_perturbation.rows import ask, scaled


class ChannelShapley(MethodModel):
    """sum_k w_k A_k with w_k the Shapley value of channel k in v(S) = y(A, channels not in S 0).

    Castro et al., Polynomial calculation of the Shapley value based on sampling, Computers and
    Operations Research 2009. Certified affine scores: w_k = <G_k, A_k>. Up to `exact` channels:
    all 2^K sets. Else random orders, each with its reverse, and an issue with the standard error.
    The weights add up to y(A) - y(0) in every case.
    """

    name: ClassVar[str] = "channelshapley"
    needs: ClassVar[Need] = Need.ACTIVATIONS | Need.TAIL
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.SCORE_SCALING, Claim.SCORE_SHIFT, Claim.LINEAR_IN_TARGET}
    )
    runs: ClassVar[str] = "1F + 20 K T"

    orders: int = Field(20, ge=2, description="random orders, rounded up to pairs")
    exact: int = Field(10, ge=0, le=20, description="enumerate up to this many channels")

    def __call__(self, capture: Capture, /) -> Tensor:
        """`[N, *S]`."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Tensor:
        """Shapley values `[N, K]`."""
        activations, gradient = capture.activations, capture.affine
        if gradient is not None:
            return (gradient * activations).sum(positions(activations))
        if activations.shape[1] <= self.exact:
            return _enumerated(capture)
        samples = self._sampled(capture)
        error = samples.std(1) / samples.shape[1] ** 0.5
        values = samples.mean(1)
        share = (error.amax(1) / values.abs().amax(1).clamp_min(1e-300)).amax()
        capture.report(
            "sampled",
            f"channel weights come from {2 * samples.shape[1]} random orders; their standard error "
            f"is up to {100 * float(share):.2g} % of the largest weight (raise orders to lower it)",
        )
        return values

    def _sampled(self, capture: Capture) -> Tensor:
        """Means of an order and its reverse, `[N, pairs, K]`."""
        activations, pairs = capture.activations, max(-(-self.orders // 2), 2)
        channels = activations.shape[1]
        draw = torch.rand(pairs, channels, generator=capture.generator, device=activations.device)
        forth = draw.argsort(1).argsort(1)  # the place of each channel
        place = torch.cat([forth, channels - 1 - forth])
        # Sets of 1 to K - 1 channels; those of none and of all are the same in every order.
        each = channels - 1

        def keep(change: Tensor) -> Tensor:
            kept = place[change // each] <= (change % each)[:, None]
            return spread(kept.to(activations.dtype), activations)

        inner = ask(capture.tail, activations, 2 * pairs * each, scaled(activations, keep))
        empty = _empty(capture)[:, :, None].expand(-1, 2 * pairs, 1)
        full = capture.score[:, None, None].expand(-1, 2 * pairs, 1)
        values = torch.cat([empty, inner.reshape(-1, 2 * pairs, each), full], 2)
        gains = values.diff(dim=2).gather(2, place.expand(len(values), -1, -1))
        return (gains[:, :pairs] + gains[:, pairs:]) / 2


def _empty(capture: Capture) -> Tensor:
    """Score without any channel, `[N, 1]`."""
    nothing = capture.activations.new_zeros(())
    return ask(capture.tail, capture.activations, 1, scaled(capture.activations, lambda _: nothing))


def _enumerated(capture: Capture) -> Tensor:
    """Shapley values from the scores of all sets of channels, `[N, K]`."""
    activations = capture.activations
    channels, device = activations.shape[1], activations.device
    bits = 2 ** torch.arange(channels, device=device)

    def keep(change: Tensor) -> Tensor:
        present = (change[:, None] & bits) > 0
        return spread(present.to(activations.dtype), activations)

    scores = ask(capture.tail, activations, 2**channels, scaled(activations, keep))
    sets = torch.arange(2**channels, device=device)
    present = (sets[:, None] & bits) > 0
    sizes = present.sum(1)
    lengths = torch.arange(channels, dtype=torch.float64, device="cpu")
    share = torch.exp(
        torch.lgamma(lengths + 1)
        + torch.lgamma(channels - lengths)
        - torch.lgamma(torch.tensor(channels + 1.0, dtype=torch.float64))
    ).to(scores)  # |S|! (K - 1 - |S|)! / K!
    values = []
    for channel in range(channels):
        without = sets[~present[:, channel]]
        gain = scores[:, without + bits[channel]] - scores[:, without]
        values.append((share[sizes[without]] * gain).sum(1))
    return torch.stack(values, 1)
