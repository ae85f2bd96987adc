"""How alike two embeddings are: an image to other images, to a text, or to itself.

With the embedding `e [M, D]` of the explained image and references `r [R, D]`, averaged over R:

- cosine: `e . r / (|e| |r|)`, the default
- dot: `e . r`
- l2: `-|e - r|`, so that more is more alike for all three

A difference explains what makes the image more like one reference than like another. References
are run through the model once, when the target is bound, and carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from camkit_core import (
    BoundTarget,
    Prepared,
    Preprocess,
    Runner,
    Target,
    TargetContext,
    TargetError,
    TargetInfo,
)
from camkit_tasks.targets.embedding import embedding, is_embedding
from camkit_tasks.targets.references import Text, open_reference, split_references

Metric = Literal["cosine", "dot", "l2"]

_EPS = 1e-12


def _cosine(e: Tensor, r: Tensor) -> Tensor:
    return functional.cosine_similarity(e, r, dim=-1, eps=_EPS)


def _dot(e: Tensor, r: Tensor) -> Tensor:
    return (e * r).sum(-1)


def _l2(e: Tensor, r: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(e - r, dim=-1)
    return -distance


_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "dot": _dot,
    "l2": _l2,
}
_NAMED = {"cosine": "cosine similarity", "dot": "dot product", "l2": "negative L2 distance"}


@dataclass(frozen=True, eq=False)
class Similarity:
    """Mean similarity to references, minus that to others if there are any.

    Attributes:
        references: embeddings `[D]` or `[R, D]`; images `[R, C, H, W]` or `[C, H, W]` as the model
            takes them; a dict or tuple of model inputs; a `Prepared`; a photo (path or PIL image),
            which needs `preprocess`; or a list of these.
        against: the same, for a difference; None for none.
        metric: `"cosine"`, `"dot"` or `"l2"`.
        preprocess: how photos become inputs, e.g. `loaded.preprocess`.
        label: what the explanation is called.
        sign: -1 turns it into what makes the image unlike (1 - cosine has the same map).
    """

    references: Any
    against: Any = None
    metric: Metric = "cosine"
    preprocess: Preprocess | None = None
    label: str = ""
    sign: int = 1

    def __post_init__(self) -> None:
        """Refuse unknown metrics now.

        Raises:
            TargetError: another metric or sign.
        """
        if self.metric not in _METRICS:
            raise TargetError(f"metric={self.metric!r} must be one of {', '.join(_METRICS)}")
        if self.sign not in (1, -1):
            raise TargetError(f"sign={self.sign!r} must be 1 or -1")

    @classmethod
    def example(cls) -> tuple[Similarity, Any]:
        """A difference of references and a clean output for it, for conformance checks."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(6, 5, generator=generator, dtype=torch.float64)
        return cls(rows[:2], rows[2:3]), {"image_embeds": rows[3:], "attentions": None}

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Run the references.

        Raises:
            TargetError: no embedding in the output, or references of another size.
        """
        like = embedding(output)
        to = self._embedded(self.references, like, run)[None]
        against = None if self.against is None else self._embedded(self.against, like, run)[None]
        return BoundSimilarity(to, against, self.metric, self._label(), self.sign)

    def _label(self) -> str:
        versus = "" if self.against is None else ", difference of two"
        named = self.label or f"references{versus}"
        side = "" if self.sign > 0 else "minus "
        return f"{side}{_NAMED[self.metric]} to {named}"

    def _embedded(self, given: Any, like: Tensor, run: Runner) -> Tensor:
        """References `[R, D]`."""
        several = list(given) if isinstance(given, list) else [given]
        if not several:
            raise TargetError("references=[] is empty: give at least one image or embedding")
        found = torch.cat([self._one(one, like, run) for one in several]).to(like)
        if found.shape[1] != like.shape[1]:
            raise TargetError(
                f"references have {found.shape[1]} dimensions, but the model's embeddings "
                f"{like.shape[1]}: they must come from the same model and the same output"
            )
        return found

    def _one(self, given: Any, like: Tensor, run: Runner) -> Tensor:
        if isinstance(given, Text):
            return given.embedded()
        if isinstance(given, Tensor) and given.ndim <= 2:
            return given.detach().reshape(-1, given.shape[-1])
        return embedding(run(self._inputs(given, like))).detach()

    def _inputs(self, given: Any, like: Tensor) -> Any:
        """What the model is called with."""
        if isinstance(given, Tensor):
            return (given[None] if given.ndim == 3 else given).to(like.device)
        if isinstance(given, Mapping | tuple):
            return given
        if isinstance(given, Prepared):
            return given.inputs.to(like.device)
        if self.preprocess is None:
            raise TargetError(
                f"reference {given!r} is a photo: pass preprocess=loaded.preprocess, or the "
                "preprocessed tensor"
            )
        return self.preprocess(open_reference(given)).inputs.to(like.device)


@dataclass(frozen=True)
class SelfSimilarity:
    """`e . e0`, where `e0` is the image's own embedding on the clean output, held fixed.

    It asks which regions make the embedding what it is. The cosine would not do: it is at its
    maximum there, so its gradient vanishes everywhere.
    """

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Keep the embedding of every image."""
        own = embedding(output).detach()
        return BoundSimilarity(own[:, None], None, "dot", "dot product with the own embedding")


@dataclass(frozen=True, eq=False)
class BoundSimilarity:
    """References that are settled: `[1, R, D]` for all images, or `[N, R, D]` for each its own."""

    to: Tensor
    against: Tensor | None
    metric: Metric
    label: str
    sign: int = 1

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]`."""
        e = embedding(output)
        score = self._mean(e, self.to, owner)
        if self.against is not None:
            score = score - self._mean(e, self.against, owner)
        return self.sign * score

    def _mean(self, e: Tensor, references: Tensor, owner: Tensor) -> Tensor:
        references = references.to(e)
        mine = references[owner.to(e.device)] if len(references) > 1 else references
        return _METRICS[self.metric](e[:, None], mine).mean(1)

    def describe(self) -> TargetInfo:
        """Measure and references."""
        return TargetInfo(kind="similarity", label=self.label)


# -- words -----------------------------------------------------------------------------------------

_FORMS: dict[str, tuple[Metric, int]] = {
    "like": ("cosine", 1),
    "like_dot": ("dot", 1),
    "like_l2": ("l2", 1),
    "unlike": ("cosine", -1),
}


def from_words(request: str, output: Any, context: TargetContext) -> Target | None:
    """`pred`, `like:ref.jpg`, `like:a.jpg-vs-b.jpg`, `unlike:ref.jpg`, `text:a dog`.

    Raises:
        TargetError: nothing after the colon, no such photo, or a model without texts.
    """
    if request == "pred":
        return SelfSimilarity() if is_embedding(output) else None
    name, colon, written = (part.strip() for part in request.partition(":"))
    if name != "text" and name not in _FORMS:
        return None
    if not colon or not written:
        what = "a text, e.g. text:a dog" if name == "text" else f"a photo, e.g. {name}:ref.jpg"
        raise TargetError(f"target={request!r}: after the colon comes {what}")
    if name == "text":
        return _texts(written, request, context)
    return SelfSimilarity() if written == "self" else _photos(name, written, request, context)


def _photos(name: str, written: str, request: str, context: TargetContext) -> Target:
    if context.loaded is None:
        raise TargetError(
            f"target={request!r} names photos, and how they become inputs of the model is not "
            "known: load it with camkit.load_model(...), or pass "
            "camkit_tasks.Similarity(tensor) with the preprocessed reference"
        )
    metric, sign = _FORMS[name]
    to, against = split_references(written)
    preprocess = context.loaded.preprocess

    def inputs(path: str) -> Tensor:
        # In the precision and on the device of the explained image, which are the model's.
        return preprocess(open_reference(path)).inputs.to(context.image)

    return Similarity(
        references=[inputs(path) for path in to],
        against=[inputs(path) for path in against] or None,
        metric=metric,
        label=f'"{written}"',
        sign=sign,
    )


def _texts(written: str, request: str, context: TargetContext) -> Target:
    encode = context.loaded.encode_text if context.loaded else None
    if encode is None:
        raise TargetError(
            f"target={request!r}: the model cannot read texts; load an image-text model with "
            "camkit.load_model('hf:...'), or give the texts as inputs of the model and the index "
            "of one as target"
        )
    to, _, against = written.partition("-vs-")
    return Similarity(
        references=Text(to.strip(), encode),
        against=Text(against.strip(), encode) if against else None,
        label=f'"{written}"',
    )
