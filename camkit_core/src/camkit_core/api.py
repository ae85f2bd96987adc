"""`explain`, `compare` and `Explainer`: the whole library for most users."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from torch import nn

from camkit_core.call import Call, MethodRequest, Progress, Words
from camkit_core.errors import OptionError
from camkit_core.explanation import Comparison, Explanation
from camkit_core.layers import LayerRequest, resolve_layers
from camkit_core.options import method_of
from camkit_core.outputs import Selector
from camkit_core.post import DEFAULT_POST
from camkit_core.protocols import LoadedModel
from camkit_core.registry import Registry, default_registry
from camkit_core.requests import TargetRequest, expand_targets
from camkit_core.reshapes import ReshapeRequest, given_reshape
from camkit_core.shadow import unwrap


class Explainer:
    """A model with its layers and reshape settled, for many calls.

    Args:
        model: an `nn.Module` (compiled or data-parallel ones are unwrapped) or a `LoadedModel`.
        layers: dotted name, module, or list of them; None finds the layer by probing.
        reshape: object with `to_spatial`, function, or name; None finds it.
        registry: plugins to use (default: the installed ones).
    """

    def __init__(
        self,
        model: nn.Module | LoadedModel,
        layers: LayerRequest = None,
        *,
        reshape: ReshapeRequest = None,
        registry: Registry | None = None,
    ) -> None:
        """Resolve the layers now, so that a typo shows before anything runs.

        Raises:
            LayerError: a layer was not found.
            CapabilityError: a sharded model.
        """
        loaded = model if isinstance(model, LoadedModel) else None
        given = loaded.model if loaded else model
        if not isinstance(given, nn.Module):
            raise OptionError(
                f"model must be an nn.Module or a LoadedModel, got {type(given).__name__}; "
                "wrap a function in a module to explain it"
            )
        self.model = unwrap(given)
        self.loaded = loaded
        self.class_names = loaded.class_names if loaded else ()
        self.output = loaded.output if loaded else None
        self._registry = registry
        self.reshape = given_reshape(reshape, self.registry)
        auto = layers is None or layers == "auto"
        self.layers = None if auto else resolve_layers(self.model, layers)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the registry; the other process has its own."""
        return {**self.__dict__, "_registry": None}

    @property
    def registry(self) -> Registry:
        """The given registry, or the process's own (which is not pickled along)."""
        return self._registry or default_registry()

    def explain(
        self,
        inputs: Any,
        method: MethodRequest = "gradcam",
        target: TargetRequest = None,
        *,
        output: Selector | None = None,
        precision: Literal["exact", "fast"] = "exact",
        budget: int | None = None,
        batch_size: int | str | None = None,
        seed: int = 0,
        post: Any = DEFAULT_POST,
        progress: Progress | None = None,
        image: int | str | None = None,
        differentiable: bool = False,
        **options: Any,
    ) -> Explanation:
        """Explain one target of every image by one method. See `camkit_core.explain`."""
        output = self.output if output is None else output
        words = Words(
            output, precision, budget, batch_size, seed, post, progress, image, differentiable
        )
        chosen = method_of(method, self.registry, options)
        call = Call(self, words, inputs, [(chosen.name, chosen)], [target])
        return call.run()[chosen.name, 0]

    def compare(
        self,
        inputs: Any,
        methods: Sequence[MethodRequest],
        targets: Sequence[TargetRequest] | str | None = None,
        *,
        output: Selector | None = None,
        precision: Literal["exact", "fast"] = "exact",
        budget: int | None = None,
        batch_size: int | str | None = None,
        seed: int = 0,
        post: Any = DEFAULT_POST,
        progress: Progress | None = None,
        image: int | str | None = None,
        differentiable: bool = False,
    ) -> Comparison:
        """Explain every target of every image by every method. See `camkit_core.compare`."""
        output = self.output if output is None else output
        words = Words(
            output, precision, budget, batch_size, seed, post, progress, image, differentiable
        )
        if isinstance(methods, str) or not methods:
            raise OptionError(f"methods={methods!r}: give a non-empty list of methods")
        _check_keys(methods)
        chosen = [(method, method_of(method, self.registry)) for method in methods]
        return Comparison(Call(self, words, inputs, chosen, expand_targets(targets)).run())


def explain(
    model: nn.Module | LoadedModel,
    inputs: Any,
    method: MethodRequest = "gradcam",
    target: TargetRequest = None,
    layers: LayerRequest = None,
    *,
    reshape: ReshapeRequest = None,
    output: Selector | None = None,
    precision: Literal["exact", "fast"] = "exact",
    budget: int | None = None,
    batch_size: int | str | None = None,
    seed: int = 0,
    post: Any = DEFAULT_POST,
    progress: Progress | None = None,
    image: int | str | None = None,
    differentiable: bool = False,
    registry: Registry | None = None,
    **options: Any,
) -> Explanation:
    """Explain one target of every image by one method.

    Args:
        model: any `nn.Module`, in any mode; it is not changed. Or a `LoadedModel`.
        inputs: image batch `[N, C, *S]`; or a tuple (positional) or dict (keyword) of model
            arguments; or a `Prepared` batch that knows its photos.
        method: name, spec string (`"gradcampp:variant=grad-cam"`) or instance.
        target: None or `"pred"` for the model's answer, a class index, a class name, a list with
            one per image, a function of one image's output that returns a scalar, or a `Target`.
        layers: dotted name(s) or module(s); negative indices (`"layer4.-1"`) and the call of a
            reused module (`"relu#1"`) are understood. None finds the layer, at the cost of one
            forward per model and input shape.
        reshape: how the layer's output becomes `[N, C, *S]`; None finds out.
        output: which part of the model's output is explained: key, index or function; None for
            the part that a `LoadedModel` names, else all of it.
        precision: `"exact"` may sum in another order, never more coarsely; `"fast"` scores
            perturbed images in bfloat16 and measures how well that agrees (see the provenance).
        budget: upper limit of forward passes of this batch.
        batch_size: rows per forward for methods that run the model again: a number, or the
            memory they may take, e.g. `"512MB"`; None measures what is fastest.
        seed: of random methods; the global generator is never used.
        post: `"default"` (relu, normalize, resize, mean over layers, normalize), `"signed"`,
            `"raw"`, or a sequence of steps.
        progress: called with (maps done, maps in all); done has fractions while rows are scored.
        image: which of several inputs is the image.
        differentiable: keep the graph from maps, scores and output to the model's parameters, for
            losses on maps in a training loop; the model still runs in eval mode, and only methods
            that read activations and gradients can do it.
        registry: plugins to use (default: the installed ones).
        **options: the method's own fields, if `method` is a name.

    Returns:
        `Explanation` with display maps `[N, *S]` and raw signed maps per layer.

    Raises:
        CamkitError: one of its subclasses; each says what happened, where, and what to do.
    """
    return Explainer(model, layers, reshape=reshape, registry=registry).explain(
        inputs,
        method,
        target,
        output=output,
        precision=precision,
        budget=budget,
        batch_size=batch_size,
        seed=seed,
        post=post,
        progress=progress,
        image=image,
        differentiable=differentiable,
        **options,
    )


def compare(
    model: nn.Module | LoadedModel,
    inputs: Any,
    methods: Sequence[MethodRequest],
    targets: Sequence[TargetRequest] | str | None = None,
    layers: LayerRequest = None,
    *,
    reshape: ReshapeRequest = None,
    output: Selector | None = None,
    precision: Literal["exact", "fast"] = "exact",
    budget: int | None = None,
    batch_size: int | str | None = None,
    seed: int = 0,
    post: Any = DEFAULT_POST,
    progress: Progress | None = None,
    image: int | str | None = None,
    differentiable: bool = False,
    registry: Registry | None = None,
) -> Comparison:
    """Explain every image for every target by every method, from one forward pass.

    The gradient family shares one backward pass per target (second-order methods add one each).

    Args:
        model: see `explain`.
        inputs: see `explain`.
        methods: names, spec strings or instances.
        targets: a list of targets as in `explain` (`"topK"` stands for the K best classes); None
            for the model's answer.
        layers: see `explain`.
        reshape: see `explain`.
        output: see `explain`.
        precision: see `explain`.
        budget: see `explain`.
        batch_size: see `explain`.
        seed: see `explain`.
        post: see `explain`.
        progress: see `explain`.
        image: see `explain`.
        differentiable: see `explain`.
        registry: see `explain`.

    Returns:
        `Comparison`, a mapping `(method as given, position of the target) -> Explanation`.

    Raises:
        CamkitError: one of its subclasses.
    """
    return Explainer(model, layers, reshape=reshape, registry=registry).compare(
        inputs,
        methods,
        targets,
        output=output,
        precision=precision,
        budget=budget,
        batch_size=batch_size,
        seed=seed,
        post=post,
        progress=progress,
        image=image,
        differentiable=differentiable,
    )


def _check_keys(methods: Sequence[MethodRequest]) -> None:
    for position, method in enumerate(methods):
        if not isinstance(method, Hashable):
            raise OptionError(
                f"methods[{position}] cannot be the key of a result because it is not hashable; "
                "make the class frozen (MethodModel is)"
            )
        if method in methods[:position]:
            raise OptionError(f"method {method!r} is given twice; results are keyed by method")
