"""Wrong engines: which layer, class, image and memory the answer comes from, and what is hidden."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.need import Claim, Need
from camkit_core.testing.mutants.engines import Hooks, engine, pick
from camkit_core.testing.mutants.mutant import Mutant
from camkit_core.testing.subject import explainer


class AliasedActivations(Hooks):
    """Keeps the layer's output itself, which the model may overwrite."""

    def run(self, net: nn.Module, x: Tensor, target: Any, layer: str) -> tuple[Tensor, Tensor]:
        """A view is no copy."""
        kept: list[Tensor] = []

        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            leaf = output.detach().requires_grad_()
            kept[:] = [leaf, leaf * 1.0]
            return kept[1]

        handle = self.layer(net, layer).register_forward_hook(hook)
        try:
            score = self.score(net(x.detach().clone()), target)
        finally:
            handle.remove()
        return kept[1].detach(), self.differentiate(score, kept[0])


class WrongLayer(Hooks):
    """Takes the gradient at the layer before."""

    def layer(self, model: nn.Module, name: str) -> nn.Module:
        """The sibling before the one that was asked for."""
        parent = model.get_submodule(name.rpartition(".")[0])
        names = [child for child, _ in parent.named_children()]
        position = names.index(name.rpartition(".")[2])
        return parent.get_submodule(
            names[max(position - 1, 0)] if name == "here" else names[position]
        )


class OffByOneClass(Hooks):
    """Counts classes from one."""

    def score(self, output: Tensor, target: Any) -> Tensor:
        """The next class."""
        return super().score(output.roll(-1, 1) if not callable(target) else output, target)


class LastSample(Hooks):
    """Differentiates the score of the last image only."""

    def score(self, output: Tensor, target: Any) -> Tensor:
        """Right for one image."""
        last = target[-1:] if isinstance(target, list) else target
        if isinstance(target, list) and len(target) != len(output):
            raise ValueError("one target per image")
        return super().score(output[-1:], last)


class MissingTargets(Hooks):
    """Pairs targets with images as far as they go."""

    def score(self, output: Tensor, target: Any) -> Tensor:
        """The rest is silently left out."""
        if isinstance(target, list):
            n = min(len(target), len(output))
            return super().score(output[:n], target[:n])
        return super().score(output, target)


class FirstImagesAnswer(Hooks):
    """Explains the first image's answer for the whole batch."""

    def score(self, output: Tensor, target: Any) -> Tensor:
        """One argmax for all."""
        return super().score(output, int(output[0].argmax()) if target is None else target)


class WrappedClasses(Hooks):
    """Negative class numbers count from the end."""

    def score(self, output: Tensor, target: Any) -> Tensor:
        """As Python indices do."""
        wrapped = output.shape[1] + target if isinstance(target, int) and target < 0 else target
        return super().score(output, wrapped)


class NansToZero(Hooks):
    """NaN is drawn as nothing."""

    def combine(self, a: Tensor, g: Tensor) -> Tensor:
        """As if it were an answer."""
        return super().combine(a.nan_to_num(0, 0, 0), g.nan_to_num(0, 0, 0))


class SwallowedErrors(Hooks):
    """Answers an exception with an empty map."""

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """Nobody hears of it."""
        try:
            return super().__call__(model, x, target, layer)
        except Exception:
            return torch.zeros(len(x), *x.shape[2:], dtype=x.dtype)


class KeepsModels(Hooks):
    """Remembers every model it was used on."""

    def __init__(self) -> None:
        self.seen: list[nn.Module] = []

    def model(self, model: nn.Module) -> nn.Module:
        """A leak."""
        self.seen.append(model)
        return super().model(model)


class NormalizedInPlace(Hooks):
    """Normalises the images where they are."""

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """The caller's tensor changes."""
        with torch.no_grad():
            x.sub_(1e-7)
        return super().__call__(model, x, target, layer)


class SeedsGlobally(Hooks):
    """Seeds the global generator, so that maps repeat."""

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """The caller's random numbers repeat, too."""
        torch.manual_seed(0)
        return super().__call__(model, x, target, layer)


class NeedsGradMode(Hooks):
    """Does not switch gradients on where the caller switched them off."""

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """Fails under no_grad."""
        return self.combine(*self.run(self.model(model), x, target, layer))


class OwnGraph(Hooks):
    """The map keeps the autograd graph."""

    def combine(self, a: Tensor, g: Tensor) -> Tensor:
        """Still attached."""
        return (g * a.requires_grad_()).sum(1)


class IgnoresSkip(Hooks):
    """Replays the modules after the layer one after the other, without the paths around them."""

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """Right for plain chains."""
        parts: Any = model
        conv, fc = (getattr(model, name, None) for name in ("conv", "fc"))
        if conv is None or not isinstance(fc, nn.Linear) or layer != "features":
            return super().__call__(model, x, target, layer)

        class Chain(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.features = parts.features

            def forward(self, x: Tensor) -> Any:
                """Layer, convolution, activation, pooling, classes."""
                z = parts.act(parts.conv(self.features(x)))
                return parts.fc(z.flatten(2).mean(-1))

        return super().__call__(Chain(), x, target, layer)


class ArgmaxAfterMasking:
    """Occlusion of the left and the right half, with the class chosen anew for each."""

    frozen = False

    def __call__(self, model: nn.Module, x: Tensor, target: Any, layer: str) -> Tensor:
        """How much of the score each half takes with it."""
        net, columns = copy.deepcopy(model).eval(), torch.arange(x.shape[-1])
        with torch.inference_mode(False), torch.no_grad():
            clean = net(x)
            pieces = []
            for column in columns:
                masked = net(torch.where(columns == column, 0.0, x))
                chosen = self._scores(clean, target, clean) - self._scores(masked, target, clean)
                pieces.append(chosen)
        found = torch.stack(pieces, 1).reshape(len(x), *(1,) * (x.ndim - 3), x.shape[-1])
        return found.expand(len(x), *x.shape[2:]).clone()

    def _scores(self, output: Tensor, target: Any, clean: Tensor) -> Tensor:
        if target is None:
            target = (clean if self.frozen else output).argmax(1).tolist()
        if not isinstance(target, list):
            target = [target] * len(output)
        if len(target) != len(output):
            raise ValueError("one target per image")
        rows = zip(output, target, strict=True)
        return torch.stack([t(row) if callable(t) else pick(row, t) for row, t in rows])


class FrozenOcclusion(ArgmaxAfterMasking):
    """The right one: the class of the clean image stays."""

    frozen = True


_OCCLUSION = frozenset(
    {
        *(Claim.DETERMINISTIC, Claim.CHANNEL_PERMUTATION, Claim.CHANNEL_RESCALING),
        *(Claim.SCORE_SCALING, Claim.SCORE_SHIFT, Claim.LINEAR_IN_TARGET),
    }
)


def _occlusion(kind: type[ArgmaxAfterMasking], killer: str) -> Mutant:
    fault = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Mutant(
        kind.__name__,
        fault,
        killer,
        lambda: explainer(kind.__name__, kind(), claims=_OCCLUSION, needs=Need.SCORES),
    )


RIGHT = (_occlusion(FrozenOcclusion, ""),)

MUTANTS = (
    engine(AliasedActivations, "inplace_network"),
    engine(WrongLayer, "right_layer"),
    engine(OffByOneClass, "reference"),
    engine(LastSample, "batch_independence"),
    engine(MissingTargets, "bad_targets"),
    engine(WrappedClasses, "bad_targets"),
    engine(FirstImagesAnswer, "predicted_class"),
    _occlusion(ArgmaxAfterMasking, "frozen_target"),
    engine(IgnoresSkip, "skip_path"),
    engine(NansToZero, "non_finite_inside"),
    engine(SwallowedErrors, "untouched_after_model_error"),
    engine(KeepsModels, "memory"),
    engine(NormalizedInPlace, "input_untouched"),
    engine(SeedsGlobally, "seed"),
    engine(NeedsGradMode, "no_grad"),
    engine(OwnGraph, "raw_map"),
)
