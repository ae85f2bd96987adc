"""What a method sees: one forward pass, one target, one layer (or several)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from camkit_core.errors import CapabilityError
from camkit_core.explanation import Issue
from camkit_core.need import Need
from camkit_core.protocols import Attention, BoundTarget, Head, LayerGraph, Rows
from camkit_core.tree import exact

if TYPE_CHECKING:
    from collections.abc import Callable

    from camkit_core.session import Session

PROVIDED = ~(Need.GRAPH | Need.FIT)
"""What the engine of this version can capture."""


class Capture:
    """Read-only view of a forward pass for one method, target and layer.

    Everything is lazy and computed once per call, however many methods ask. Tensors are detached,
    in float32 or better, and must not be written to. What a method did not declare in `needs` is
    refused.

    Attributes:
        layers: names of all captured layers.
        layer: the layer this capture is about ("" for methods in input space).
        generator: random numbers for this call, on the image's device, seeded by `seed=`.
    """

    def __init__(
        self,
        session: Session,
        target: int,
        layer: str,
        needs: Need,
        method: str,
        seed: int,
        issues: list[Issue] | None = None,
    ) -> None:
        """Built by the engine."""
        self._session = session
        self._target = target
        self._needs = needs
        self._method = method
        self._seed = seed
        self._issues = [] if issues is None else issues
        self._generator: torch.Generator | None = None
        self.layer = layer
        self.layers = tuple(one.name for one in session.layers)

    # -- always there ------------------------------------------------------------------------

    @property
    def inputs(self) -> Tensor:
        """The image batch `[N, C, *S]`."""
        return exact(self._session.image)

    @property
    def output(self) -> Any:
        """The model's output on the clean batch."""
        return self._session.output

    @property
    def score(self) -> Tensor:
        """What the target scored, `[N]`."""
        return self._session.score(self._target)

    @property
    def target(self) -> BoundTarget:
        """The bound target."""
        return self._session.bound[self._target]

    @property
    def generator(self) -> torch.Generator:
        """Random numbers of this call."""
        if self._generator is None:
            self._generator = torch.Generator(self.inputs.device).manual_seed(self._seed)
        return self._generator

    def report(self, code: str, message: str, images: tuple[int, ...] = ()) -> None:
        """Attach an issue to the explanation."""
        issue = Issue(code, message, images, self.layer)
        if issue not in self._issues:
            self._issues.append(issue)

    # -- at the layer ------------------------------------------------------------------------

    @property
    def activations(self) -> Tensor:
        """Output of the layer, `[N, C, *S]`. Needs ACTIVATIONS."""
        self._require(Need.ACTIVATIONS)
        return self._session.activations(self._here())

    @property
    def gradients(self) -> Tensor:
        """Gradient of the score at the layer, `[N, C, *S]`. Needs GRADIENTS."""
        self._require(Need.GRADIENTS)
        return self._session.gradients(self._target, self._here())

    def hvp(self, vector: Tensor) -> Tensor:
        """Hessian of the score at the layer times `vector`, both `[N, C, *S]`. Needs SECOND_ORDER.

        Zero where the score is linear in the activations.
        """
        self._require(Need.SECOND_ORDER)
        return self._session.hvp(self._target, self._here(), vector)

    @property
    def head(self) -> Head:
        """The linear layer behind global average pooling. Needs HEAD.

        Raises:
            CapabilityError: the model has no such head behind this layer.
        """
        from camkit_core.head import find_head

        self._require(Need.HEAD)
        return find_head(self._session, self._here())

    @property
    def affine(self) -> Tensor | None:
        """Gradient G `[N, C, *S]` if `score(A + D) = score(A) + <G, D>` for every D, else None.

        Certified, not guessed: every operation between the layer and the score is affine in the
        activations A, and a few random D were run. What follows from it in closed form needs no
        further run. Needs TAIL (not GRADIENTS).
        """
        from camkit_core.affine import certified

        self._require(Need.TAIL)
        return certified(self._session, self._target, self._here())

    def multipliers(self, baseline: Tensor) -> Tensor:
        """DeepLIFT multipliers `[N, C, *S]` between a baseline `[N, C, *S]` and the activations A.

        By the Rescale rule (arXiv:1704.02685, section 3.5.2): `multipliers * (A - baseline)` sums
        to `score(A) - score(baseline)` for each image, which is checked. Where the score is affine
        in A they are its gradient. Two runs of what is behind the layer, one backward. Needs TAIL.

        Raises:
            CapabilityError: behind the layer there is more than what is linear in it, functions
                of one value, and max pooling: layer norm, softmax, a gate, a choice by value.
        """
        from camkit_core.multipliers import multipliers

        self._require(Need.TAIL)
        found = multipliers(self._session, self._target, self._here(), baseline)
        self._tell_slow()
        return found

    def tail(self, rows: Rows) -> Tensor:
        """Scores `[M]` with the layer's activations replaced by `rows` `[M, C, *S]`. Needs TAIL.

        Only what comes after the layer runs, where that was checked to be exact; else the whole
        model, with the layer's output exchanged, and the provenance says so.
        """
        from camkit_core.perturb import tail_scores

        self._require(Need.TAIL)
        scores = tail_scores(self._session, self._target, self._here(), rows)
        self._tell_slow()
        return scores

    def __getitem__(self, layer: str) -> Capture:
        """The capture of another layer. Needs LAYERS."""
        self._require(Need.LAYERS)
        if layer not in self.layers:
            raise KeyError(f"{layer!r} was not captured; there are {', '.join(self.layers)}")
        return self._sibling(self._session, layer)

    # -- at the input ------------------------------------------------------------------------

    @property
    def input_gradients(self) -> Tensor:
        """Gradient of the score at the image, `[N, C, *S]`. Needs INPUT_GRADIENTS."""
        self._require(Need.INPUT_GRADIENTS)
        return self._session.input_gradients(self._target)

    def scores(
        self, rows: Rows, *, differentiable: bool = False, target: BoundTarget | None = None
    ) -> Tensor:
        """Scores `[M]` of perturbed images `rows` `[M, C, *S]`. Needs SCORES.

        With `differentiable` they carry the graph back to the rows (`torch.enable_grad()` is the
        caller's); the model's parameters are constants in it and never get a `.grad`. `target`
        scores in place of the call's own: another view of it, say.
        """
        from camkit_core.perturb import differentiable_scores, input_scores

        self._require(Need.SCORES)
        run = differentiable_scores if differentiable else input_scores
        return run(self._session, self._target, rows, target)

    def at(self, inputs: Tensor) -> Capture:
        """The same question asked of other images `[N, C, *S]`. Needs RECAPTURE."""
        from camkit_core.perturb import recapture

        self._require(Need.RECAPTURE)
        return self._sibling(recapture(self._session, inputs), self.layer)

    # -- the whole model ---------------------------------------------------------------------

    @property
    def attention(self) -> tuple[Attention, ...]:
        """Softmax attention of every block, in order of execution. Needs ATTENTION.

        With the gradients of the score if GRADIENTS is among the needs, too.

        Raises:
            CapabilityError: the model has no attention, or some that cannot be opened, or tokens
                that only attend within windows.
        """
        from camkit_core.attention_read import attention_of

        self._require(Need.ATTENTION)
        gradients = Need.GRADIENTS in self._needs
        return attention_of(self._session, self._target, gradients=gradients)

    @property
    def grid(self) -> Tensor:
        """Which token each position of the picture is, `[*S]`. Needs ATTENTION.

        `relevance[:, capture.grid]` is the picture of relevance `[N, T]` per token; class and
        register tokens are in no picture.

        Raises:
            LayoutError: the tokens of the last block cannot be read as a picture.
        """
        from camkit_core.attention_read import grid_of

        self._require(Need.ATTENTION)
        return grid_of(self._session)

    @property
    def readers(self) -> Tensor:
        """Which tokens of the last block the score reads, `[T]` of bool. Needs ATTENTION.

        The class token of a model that classifies by it, all patches of one that averages them:
        found from the score's derivative, not from names. Where there is no score, the first token
        that is in no picture, else all.
        """
        from camkit_core.attention_read import readers_of

        self._require(Need.ATTENTION)
        return readers_of(self._session, self._target)

    def exit_gradients(self, block: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Gradient at one block's weights of the score its tokens would have as the last ones.

        The block's tokens `[N, T, C]` pass through `change` and replace those of the last block;
        what comes behind the last block (norm, pooling, classes) scores them. `[N, heads, T, T]`.
        Needs ATTENTION and GRADIENTS.

        Raises:
            CapabilityError: the model cannot be cut behind its last block.
        """
        from camkit_core.attention_exit import exit_gradients

        self._require(Need.ATTENTION)
        self._require(Need.GRADIENTS)
        return exit_gradients(self._session, self._target, block, change)

    @property
    def graph(self) -> LayerGraph:
        """All biases and the gradients at their outputs. Needs GRAPH."""
        self._require(Need.GRAPH)
        raise CapabilityError("this version of camkit-core does not capture the layer graph")

    def _sibling(self, session: Session, layer: str) -> Capture:
        return Capture(
            session, self._target, layer, self._needs, self._method, self._seed, self._issues
        )

    def _tell_slow(self) -> None:
        if ("slow", self.layer) in self._session.memo:
            self.report("slow_tail", self._session.memo["slow", self.layer])

    def _here(self) -> str:
        if not self.layer:
            raise CapabilityError(
                f"method {self._method} reads one layer, but its capture has all of them; use "
                "capture[layer]"
            )
        return self.layer

    def _require(self, need: Need) -> None:
        if need not in self._needs:
            words = ", ".join(self._needs.words()) or "nothing"
            raise CapabilityError(
                f"method {self._method} uses {need.words()[0]} but declares needs = {words}; add "
                f"Need.{need.name} to its needs so that the engine can plan for it"
            )
