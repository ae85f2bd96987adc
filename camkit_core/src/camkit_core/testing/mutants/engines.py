"""Wrong engines: what goes wrong around the formula when hooks are put on a user's model.

`Hooks` is a small right engine; each mutant changes one of its steps.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.need import Claim
from camkit_core.testing.mutants.mutant import Mutant
from camkit_core.testing.subject import explainer


class Hooks:
    """HiResCAM by hooks on a private copy of the model: right, if slow."""

    def model(self, model: nn.Module) -> nn.Module:
        """What is run."""
        return copy.deepcopy(model).eval().requires_grad_(False)

    def keep(self, output: Tensor) -> Tensor:
        """What is kept of the layer's output."""
        return output.detach().clone().requires_grad_()

    def layer(self, model: nn.Module, name: str) -> nn.Module:
        """Where."""
        return model.get_submodule(name)

    def score(self, output: Tensor, target: Any) -> Tensor:
        """The sum over images of what is explained."""
        if target is None:
            target = output.argmax(1).tolist()
        if not isinstance(target, list):
            target = [target] * len(output)
        if len(target) != len(output):
            raise ValueError("one target per image")
        rows = zip(output, target, strict=True)
        return torch.stack([t(row) if callable(t) else pick(row, t) for row, t in rows]).sum()

    def run(self, net: nn.Module, x: Tensor, target: Any, layer: str) -> tuple[Tensor, Tensor]:
        """Activations and gradients."""
        kept: list[Tensor] = []

        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            kept.append(self.keep(output))
            return kept[-1].clone()

        handle = self.layer(net, layer).register_forward_hook(hook)
        try:
            score = self.score(net(x.detach().clone()), target)
        finally:
            self.release(handle)
        return kept[0].detach(), self.differentiate(score, kept[0])

    def release(self, handle: Any) -> None:
        """Take the hook away."""
        handle.remove()

    def differentiate(self, score: Tensor, kept: Tensor) -> Tensor:
        """The gradient."""
        (found,) = torch.autograd.grad(score, kept)
        return found

    def combine(self, a: Tensor, g: Tensor) -> Tensor:
        """`sum_k G A`."""
        return (g * a).sum(1).detach()

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """Raw map `[N, *S]`."""
        with torch.inference_mode(False), torch.enable_grad():
            net = self.model(model)
            return self.combine(*self.run(net, x, target, layer))


def pick(row: Tensor, index: int) -> Tensor:
    """One logit; Python's negative indices are no classes."""
    if not 0 <= index < len(row):
        raise ValueError(f"class {index} of {len(row)}")
    return row[index]


class OnTheModel(Hooks):
    """Runs the user's own model, in evaluation mode for the time."""

    def model(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    @contextlib.contextmanager
    def evaluation(self, model: nn.Module) -> Iterator[None]:
        """Training flags are put back, module by module."""
        flags = {module: module.training for module in model.modules()}
        model.eval()
        try:
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """Raw map `[N, *S]`."""
        with self.evaluation(model):
            return super().__call__(model, x, target, layer)


class LeakedHook(OnTheModel):
    """The hook stays on the model."""

    def release(self, handle: Any) -> None:
        """Forgotten."""


class PollutedGradients(OnTheModel):
    """`backward()` fills the parameters' .grad."""

    def differentiate(self, score: Tensor, kept: Tensor) -> Tensor:
        """As most code does."""
        score.backward()
        assert kept.grad is not None
        return kept.grad


class LostTrainingFlags(OnTheModel):
    """`model.eval()`, and never back."""

    @contextlib.contextmanager
    def evaluation(self, model: nn.Module) -> Iterator[None]:
        """One way."""
        model.eval()
        yield


class AllTrainingFlags(OnTheModel):
    """`model.train(was_training)` sets every module alike."""

    @contextlib.contextmanager
    def evaluation(self, model: nn.Module) -> Iterator[None]:
        """The root's flag for all."""
        flag = model.training
        model.eval()
        try:
            yield
        finally:
            model.train(flag)


class StaysInTraining(Hooks):
    """Explains the model in whatever mode it is."""

    def model(self, model: nn.Module) -> nn.Module:
        """Dropout is active."""
        return copy.deepcopy(model).requires_grad_(False)


class LeakedAfterError(OnTheModel):
    """The hook stays on the model if something raises."""

    def run(self, net: nn.Module, x: Tensor, target: Any, layer: str) -> tuple[Tensor, Tensor]:
        """No `finally`."""
        kept: list[Tensor] = []

        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            kept.append(self.keep(output))
            return kept[-1].clone()

        handle = self.layer(net, layer).register_forward_hook(hook)
        score = self.score(net(x.detach().clone()), target)
        handle.remove()
        return kept[0].detach(), self.differentiate(score, kept[0])


def engine(kind: type[Hooks], killer: str) -> Mutant:
    """A mutant that is checked as HiResCAM, which it says to be."""
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Mutant(
        kind.__name__, fault, killer, lambda: explainer("hirescam", kind(), claims=frozenset(Claim))
    )


RIGHT = tuple(engine(kind, "") for kind in (Hooks, OnTheModel))

MUTANTS = (
    engine(LeakedHook, "model_untouched"),
    engine(PollutedGradients, "model_untouched"),
    engine(LostTrainingFlags, "model_untouched"),
    engine(AllTrainingFlags, "model_untouched"),
    engine(LeakedAfterError, "untouched_after_model_error"),
    engine(StaysInTraining, "training_mode"),
)
