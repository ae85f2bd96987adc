"""Watches a network run at two places, and knows the slope of every function between them.

DeepLIFT (Shrikumar, Greenside and Kundaje, Learning Important Features Through Propagating
Activation Differences, ICML 2017, arXiv:1704.02685) compares a run with a reference run. Its
multipliers obey the chain rule (section 3.3). What is linear multiplies by its derivative (3.5.1,
Linear rule), a function of one value by its secant between the two runs,
(out - out_ref) / (in - in_ref) (3.5.2, Rescale rule). So multipliers are what the backward pass
gives once the derivatives of these functions are exchanged for secants.

Both runs are watched operator by operator, below the functions and modules that a model is written
in: `nn.ReLU`, `F.relu`, `x.relu_()` and scripted code all end in the same operator. What has no
rule is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr
from torch.autograd.graph import Node

from camkit_core.linear import NEUTRAL, Affine
from camkit_core.tree import exact, floating, tensors

_FUNCTIONS = """
relu threshold hardtanh leaky_relu elu celu gelu silu mish sigmoid log_sigmoid_forward tanh softplus
hardswish hardsigmoid softshrink hardshrink _prelu_kernel clamp clamp_min clamp_max abs exp expm1
log log1p sqrt rsqrt reciprocal pow erf sin cos
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Functions of each value of the first operand by itself; with `_` at the end, in place."""
MAXIMA = {
    "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3,
    "adaptive_max_pool2d": 2,
    "adaptive_max_pool3d": 3,
}
"""Maxima over windows, and the number of axes that these slide along."""

_WORDS = {
    "layer_norm|rms_norm": "layer normalization",
    "group_norm|instance_norm": "normalization by groups of channels",
    "batch_norm": "normalization by the statistics of its own batch",
    "attention|multi_head|encoder_layer": "attention",
    "softmax|logsumexp": "a softmax",
    "^(arg|sort|topk|kthvalue|median|nonzero|bucketize|searchsorted)": "a choice by value",
    "^(gt|lt|ge|le|eq|ne)_?$|logical_|^sign_?$": "a comparison",
    "^(amax|amin|max|min|aminmax|maximum|minimum)$": "a maximum that is no max pooling",
    "^_local_scalar_dense$": "a value that is read into Python",
    "norm$|^var|^std": "a norm",
}
_PRODUCTS = re.compile(r"^(mul|mm|bmm|dot|mv|matmul|outer|addmm|baddbmm|convolution|linear|div)_?$")
_PRODUCT = "a product or quotient of values that both depend on the layer (a gate, for instance)"


@dataclass(frozen=True, slots=True)
class Step:
    """One function in one run.

    Attributes:
        name: of the operator.
        before: what it got.
        after: what it made of it.
        places: where in its plane each maximum was found, counted through.
    """

    name: str
    before: Tensor
    after: Tensor
    places: Tensor | None = None

    def like(self, other: Step) -> bool:
        """Whether the other is the same function in another run."""
        mine = self.name, self.before.shape, self.after.shape
        return mine == (other.name, other.before.shape, other.after.shape)


class Rules(Affine):
    """Follows a tensor through what is affine, and through functions that have a rule."""

    _cloned = -1

    def met(self, step: Step, node: int) -> None:
        """A function was run; `node` is the number of its node in the autograd graph."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, or refuse it in words."""
        kwargs, name, newest = kwargs or {}, self._name(func), _newest()
        if name == "clone":
            self._cloned = newest
        if self.depends((args, kwargs)) and name not in NEUTRAL:
            if self._aside(name, args):
                return func(*args, **kwargs)
            self._attached(func, (args, kwargs))
            plain = name.rstrip("_")
            if plain in FUNCTIONS or plain in MAXIMA:
                return self._function(func, newest, args, kwargs)
            if not self._affine(func, args, kwargs):
                self.refuse(f"{self._words(name, args, kwargs)} ({func})")
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _function(
        self, func: Any, newest: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name, here = self._name(func).rstrip("_"), args[0]
        writes = self._name(func) != name
        if not self.depends(here) or self.depends((args[1:], kwargs)):
            self.refuse(f"a function of several values that depend on the layer ({func})")
        if not torch.is_grad_enabled():
            self.refuse(f"a function that has no gradient here ({func} under no_grad)")
        if writes and here._is_view():
            self.refuse(f"a function that overwrites a part of a tensor ({func} of a view)")
        before = here.clone() if writes else here
        output = func(*args, **kwargs)
        found = tensors(output)
        if name not in MAXIMA and found[0].shape != before.shape:
            self.refuse(f"a function of several values ({func})")
        for tensor in found:
            self._mark(tensor)
        # To be able to go back, autograd copies what some operators overwrite; that takes a number.
        node = newest - 1 if writes and self._cloned == newest else newest
        self.met(Step(name, before, found[0], found[1] if name in MAXIMA else None), node)
        return output

    def _aside(self, name: str, args: tuple[Any, ...]) -> bool:
        """What autograd does for itself, and the places of maxima, which nobody may use."""
        return name == "detach" or (name == "squeeze" and not args[0].is_floating_point())

    def _attached(self, func: Any, tree: Any) -> None:
        for tensor in floating(tree):
            if self.depends(tensor) and not tensor.requires_grad and tensor.grad_fn is None:
                self.refuse(f"a value that was detached, or computed under no_grad ({func} of it)")

    def _words(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        operands = sum(self.depends(one) for one in (*args, *kwargs.values()))
        if _PRODUCTS.match(name) and (operands > 1 or name.startswith("div")):
            return _PRODUCT if operands > 1 else "a division by a value that depends on the layer"
        return next(
            (w for sign, w in _WORDS.items() if re.search(sign, name)),
            "an operator without a rule",
        )


class Reference(Rules):
    """The reference run: keeps what each function got and made.

    Attributes:
        steps: in order.
    """

    def __init__(self, start: Tensor) -> None:
        """`start` is what everything is a function of."""
        super().__init__(start)
        self.steps: list[Step] = []

    def met(self, step: Step, node: int) -> None:
        """Keep it, safe from what may write to it later."""
        copies = step.before.clone(), step.after.clone()
        self.steps.append(Step(step.name, *copies, step.places))


class Secants(Rules):
    """The run that is compared with a reference."""

    def __init__(self, start: Tensor, reference: list[Step]) -> None:
        """`start` is what everything is a function of; the steps are used up, to free memory."""
        super().__init__(start)
        self._rest = reference
        self._rest.reverse()
        self._slopes: dict[int, tuple[str, Slope]] = {}

    def met(self, step: Step, node: int) -> None:
        """Compare it with the same function of the reference run."""
        other = self._rest.pop() if self._rest else None
        if other is None or not step.like(other):
            self._strayed()
        else:
            slope = Maxima(step, other) if step.name in MAXIMA else Secant(step, other)
            self._slopes[node] = step.name, slope

    def install(self, score: Tensor) -> None:
        """Have the backward pass from the score take secants for derivatives.

        Raises:
            RefusedError: the two runs were not the same functions, or not those of the graph.
        """
        if self._rest:
            self._strayed()
        for node in _graph(score):
            name, slope = self._slopes.get(node._sequence_nr(), ("", None))
            if slope is None:
                continue
            if _bare(name) != _bare(node.name().partition("Backward")[0]):
                self.refuse(f"a function whose derivative cannot be told ({name}, {node.name()})")
            node.register_hook(_exchanging(slope))

    def _strayed(self) -> None:
        self.refuse("a way through the model that depends on what the layer returned")


class Slope(Protocol):
    """What a function multiplies a gradient by."""

    def __call__(self, gradient: Tensor, plain: Tensor, /) -> Tensor:
        """Gradient before the function, from that after it and what autograd makes of it."""
        ...


class Secant:
    """gradient * (out - out_ref) / (in - in_ref), by the derivative where in is almost in_ref."""

    def __init__(self, step: Step, other: Step) -> None:
        """The same function in two runs."""
        change, self._near = _change(step, other)
        self._secant = (exact(step.after) - exact(other.after)) / change

    def __call__(self, gradient: Tensor, plain: Tensor, /) -> Tensor:
        """As in `Slope`."""
        return torch.where(self._near, plain, (gradient * self._secant).to(plain.dtype))


class Maxima:
    """The change of a maximum is due to the place where the larger of the two was found.

    Its own value changed at least as much. A place that is the maximum of several windows is
    given the sum of their changes, so that nothing is lost where windows overlap.
    """

    def __init__(self, step: Step, other: Step) -> None:
        """The same pooling in two runs."""
        assert step.places is not None and other.places is not None  # noqa: PT018
        self._axes = MAXIMA[step.name]
        self._change, self._near = _change(step, other)
        self._gain = exact(step.after) - exact(other.after)
        self._places = torch.where(self._gain >= 0, step.places, other.places)

    def __call__(self, gradient: Tensor, plain: Tensor, /) -> Tensor:
        """As in `Slope`."""
        given = torch.zeros_like(self._change, memory_format=torch.contiguous_format)
        planes = given.flatten(-self._axes)
        parts = (gradient * self._gain).flatten(-self._axes).to(planes.dtype)
        planes.scatter_add_(-1, self._places.flatten(-self._axes), parts)
        return torch.where(self._near, plain, (given / self._change).to(plain.dtype))


def _change(step: Step, other: Step) -> tuple[Tensor, Tensor]:
    """Difference of the inputs, and where it has lost too many digits to divide by it.

    The secant's error is that of rounding by the difference, the derivative's the difference
    itself: they are equal at the root of the precision. No kink at zero lies within.
    """
    new, old = exact(step.before), exact(other.before)
    change = new - old
    few = torch.finfo(step.before.dtype).eps ** 0.5
    return change, change.abs() <= few * torch.maximum(new.abs(), old.abs())


def _exchanging(slope: Slope) -> Any:
    def hook(before: tuple[Any, ...], after: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if before[0] is None or after[0] is None:
            return None
        return slope(after[0], before[0]), *before[1:]

    return hook


def _graph(score: Tensor) -> Iterator[Node]:
    """Every node behind a score, once."""
    rest, seen = [score.grad_fn], set[Node]()
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            rest += [following for following, _ in node.next_functions]


def _newest() -> int:
    """Number of the node that was made last in this thread."""
    return _get_sequence_nr() - 1


def _bare(name: str) -> str:
    return name.lower().replace("_", "").removesuffix("forward")
