"""DeepLIFT's multipliers of a score at a layer, from two runs of what comes behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from camkit_core.errors import BudgetError, CapabilityError, InputError
from camkit_core.layers import Layer
from camkit_core.linear import NoReading, RefusedError
from camkit_core.owners import Owners
from camkit_core.rerun import afford_rows, rounding, run_again, undisturbed
from camkit_core.secants import Reference, Rules, Secants, Step
from camkit_core.session import Session
from camkit_core.tail import Whole, out_of_memory
from camkit_core.tree import exact
from camkit_core.verdict import tail_of


def multipliers(session: Session, target: int, layer: str, baseline: Tensor) -> Tensor:
    """`[N, C, *S]`, for activations of `layer` against a baseline `[N, C, *S]`.

    The two runs are made one after the other, so nothing is assumed about the axis of the images.

    Raises:
        CapabilityError: something behind the layer has no rule, or the contributions do not add up.
        InputError: the baseline has another shape than the activations.
    """
    clean = session.activations(layer)
    if baseline.shape != clean.shape:
        raise InputError(
            f"the baseline is {list(baseline.shape)}, but layer {layer!r} returned "
            f"{list(clean.shape)}; give one value for each activation"
        )
    if session.done.stored:
        _refuse(layer, "another use of the layer's output, which is stored somewhere")
    return _Runs(session, target, session.layer(layer)).compared(clean, baseline.to(clean))


class _Runs:
    """Runs from one layer to one score."""

    def __init__(self, session: Session, target: int, layer: Layer) -> None:
        images = len(session.inputs.image)
        self._session, self._target, self._layer = session, target, layer
        session.asked += 2 * images
        self._way, self._share = tail_of(session, layer)
        afford_rows(session, 2 * images, self._share)
        self._owners = Owners.of(session.owner, images)

    def compared(self, clean: Tensor, baseline: Tensor) -> Tensor:
        """Multipliers between two runs, which were found to explain the score's change."""
        return undisturbed(self._way, lambda: self._compared(clean, baseline))

    def _compared(self, clean: Tensor, baseline: Tensor) -> Tensor:
        leaf = _leaf(baseline)
        reference = Reference(leaf)
        low = self._score(leaf, reference).detach()
        functions, leaf = _listed(reference.steps), _leaf(clean)
        secants = Secants(leaf, reference.steps)
        del reference
        found = self._backward(self._score(leaf, secants), leaf, secants)
        self._check(((clean - baseline) * found).flatten(1), low)
        self._session.note(
            f"{self._layer.name}: DeepLIFT multipliers by the Rescale rule ({functions}); the "
            "contributions were found to add up to the change of the score"
        )
        return found

    def _score(self, leaf: Tensor, rules: Rules) -> Tensor:
        session, owners = self._session, self._owners
        try:
            with torch.inference_mode(False), torch.enable_grad(), rules, NoReading(rules):
                output = self._output(leaf, rules)
                score = session.bound[self._target](output, owners.index)
        except RefusedError as error:
            _refuse(self._layer.name, str(error))
        except Exception:
            if rules.reason:  # the target caught it, and failed for want of a value
                _refuse(self._layer.name, rules.reason)
            raise
        if rules.reason:
            _refuse(self._layer.name, rules.reason)
        self._count()
        return score

    def _output(self, leaf: Tensor, rules: Rules) -> Any:
        try:
            return run_again(self._session, self._way, leaf, self._owners, grad=True)
        # Where it is watched, somebody's model may take another way, and fail in any manner.
        except Exception as error:
            if out_of_memory(error) or isinstance(error, RefusedError | BudgetError):
                raise
            said = f"{type(error).__name__}: {_first_line(error)}"
            return rules.refuse(f"code that fails where it is watched, with gradients ({said})")

    def _count(self) -> None:
        tally = self._session.tally
        if isinstance(self._way, Whole):
            tally.whole()
        else:
            tally.tail(self._share)

    def _backward(self, score: Tensor, leaf: Tensor, secants: Secants) -> Tensor:
        if not score.requires_grad:
            if secants.depends(score):
                _refuse(self._layer.name, "a value that no gradient reaches")
            return torch.zeros_like(leaf, requires_grad=False)
        try:
            secants.install(score)
        except RefusedError as error:
            _refuse(self._layer.name, str(error))
        self._session.tally.backwards += 1
        ones = torch.ones_like(score)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                (found,) = torch.autograd.grad(score, leaf, ones, materialize_grads=True)
        except RuntimeError as error:  # a result that was overwritten, an operator without one
            if out_of_memory(error):
                raise
            said = _first_line(error)
            _refuse(self._layer.name, f"something that autograd cannot go back through ({said})")
        return exact(found.detach())

    def _check(self, gains: Tensor, low: Tensor) -> None:
        """Summation to delta: contributions `[N, C * S]` sum to the change of the score."""
        high = self._session.score(self._target)
        change, total = high - low, gains.sum(1)
        scale = high.abs() + low.abs() + gains.abs().sum(1)
        off = (total - change).abs()
        bad = ~(off <= 10 * rounding(self._session, self._layer) * scale)
        if not bool(bad.any()):
            return
        image = int(bad.nonzero()[0])
        _refuse(
            self._layer.name,
            f"something that the rules do not see: the contributions of image {image} sum to "
            f"{float(total[image]):.6g}, but its score changes by {float(change[image]):.6g}",
        )


def _leaf(rows: Tensor) -> Tensor:
    # In memory of its own: what shares memory with it counts as computed from it.
    return rows.detach().clone().requires_grad_()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _listed(steps: Sequence[Step]) -> str:
    counts = Counter(step.name.strip("_").removesuffix("_with_indices") for step in steps)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "all of it is affine"


def _refuse(layer: str, reason: str) -> NoReturn:
    raise CapabilityError(
        f"the score has no DeepLIFT multipliers at layer {layer!r}: behind it comes {reason}; the "
        "rules know operators that are linear in the layer's activations, functions of one value "
        "(ReLU, GELU, sigmoid) and max pooling, so choose a layer behind that"
    )
