"""The shapes everything in camkit agrees on.

Letters in comments: N images, M rows of a perturbed batch, C channels, S spatial axes (any number),
T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from camkit_core.need import Need

if TYPE_CHECKING:
    from camkit_core.capture import Capture
    from camkit_core.explanation import Explanation, Issue
    from camkit_core.outputs import Selector

Runner = Callable[[Any], Any]
"""`run(inputs) -> output` of the explained model, in eval mode, without gradients."""


@runtime_checkable
class Method(Protocol):
    """An explanation algorithm: a pure function of one capture."""

    name: ClassVar[str]
    needs: ClassVar[Need]

    def __call__(self, capture: Capture, /) -> Tensor:
        """Raw, signed map `[N, *S]` at the layer's resolution (or the input's)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInfo:
    """What a bound target explains, for people and for files."""

    kind: str
    label: str  # `class K` in it is shown by its name where the model's class names are known
    classes: Tensor | None = None  # [N] class index per image, for class targets
    labels: tuple[str, ...] = ()  # one per image where they differ or have names
    differentiable: bool = True
    boxes: Tensor | None = None  # [N, P, 4] x0, y0, x1, y1 in input pixels; NaN where there is none
    absent: tuple[int, ...] = ()  # images without what was asked for: their maps are zero
    issues: tuple[Issue, ...] = ()  # what a reader must know, whatever the method


@runtime_checkable
class BoundTarget(Protocol):
    """A target whose open choices (which class, which box) were settled on the clean output."""

    def __call__(self, output: Any, owner: Tensor, /) -> Tensor:
        """Scores `[M]` of an output with M rows; row m belongs to clean image `owner[m]`."""
        ...

    def describe(self) -> TargetInfo:
        """What is explained."""
        ...


@runtime_checkable
class Target(Protocol):
    """What is explained, before the model has run."""

    def bind(self, output: Any, run: Runner, /) -> BoundTarget:
        """Settle every open choice on the clean output; `run` gives outputs of other inputs."""
        ...


@runtime_checkable
class Reshape(Protocol):
    """How a layer's output becomes a picture, and back.

    Purely structural (select, permute, view): it is applied to gradients as well.
    """

    def to_spatial(self, output: Any, /) -> Tensor:
        """Layer output to `[N, C, *S]`."""
        ...

    def from_spatial(self, maps: Tensor, like: Any, /) -> Any:
        """`[N, C, *S]` back into the structure of `like`, which supplies what is not spatial."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetContext:
    """What a plugin may look at to understand a target request."""

    model: nn.Module
    image: Tensor  # [N, C, *S], the clean batch
    class_names: tuple[str, ...] = ()
    loaded: LoadedModel | None = None  # if that is what the user gave as model
    pictures: tuple[Picture, ...] = ()  # the photos behind the batch, if they are known


class Rows(Protocol):
    """A lazy batch that is never materialised: perturbed inputs or activations."""

    @property
    def owner(self) -> Tensor:
        """Clean image of each row, `[M]`."""
        ...

    def __len__(self) -> int:
        """M."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Rows `rows`, built on demand."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The linear layer behind global average pooling: `logits = weight @ mean_S(A) + bias`."""

    name: str
    weight: Tensor  # [K, C]
    bias: Tensor | None  # [K]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Softmax attention of one block, in float32 or better.

    `gradients`, `output_gradients` and `token_gradients` are derivatives of the score, None unless
    the method needs GRADIENTS as well. Queries, keys, values and output are None where the model
    writes its attention in a way that does not show them, and queries may lack a constant factor.
    """

    layer: str  # the module that attended, with "#call" if it did so several times
    block: str  # the block around it; empty if nothing around it returns the tokens
    weights: Tensor  # [N, heads, queries, keys]
    gradients: Tensor | None
    queries: Tensor | None  # [N, heads, queries, D]
    keys: Tensor | None  # [N, heads, keys, D]
    values: Tensor | None  # [N, heads, keys, D]
    output: Tensor | None  # weights times values, [N, heads, queries, D]
    output_gradients: Tensor | None
    tokens: Tensor | None  # what the block returned, [N, queries, C]; None if overwritten since
    token_gradients: Tensor | None


@dataclass(frozen=True, slots=True)
class BiasTerm:
    """One bias, explicit or implied by a normalisation layer, and the gradient at its output."""

    layer: str
    bias: Tensor  # [C]
    gradients: Tensor  # [N, C, *S]


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """All biases of the model in execution order."""

    terms: tuple[BiasTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Where the right explanation lies, in pixels of the model's input."""

    target: Tensor  # [N, *S] bool: the object that the explained class names
    rivals: Tensor | None = None  # [N, *S] bool: objects of other classes in the same image
    cell: Tensor | None = None  # [N, *S] bool: the object's own cell of a mosaic


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an explanation is judged by."""

    truth: Truth | None = None  # for localisation, where the right answer is known
    capture: Capture | None = None  # for faithfulness: the explained model, target already bound


@runtime_checkable
class Metric(Protocol):
    """How good an explanation is."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    def __call__(self, explanation: Explanation, evidence: Evidence, /) -> Tensor:
        """One value per image `[N]`; NaN where it is undefined.

        Raises:
            CapabilityError: the evidence lacks what this metric needs.
        """
        ...


@runtime_checkable
class Control(Protocol):
    """A map that needs no model: what a metric gives to luck, to a habit, or to the truth."""

    name: ClassVar[str]

    def __call__(self, explanation: Explanation, evidence: Evidence, seed: int, /) -> Tensor:
        """Display maps `[N, *S]` in [0, 1] to be judged in place of the explanation's own."""
        ...


class Renderer(Protocol):
    """Turns explanations into one picture. The only place that leaves torch."""

    name: ClassVar[str]

    def __call__(self, explanations: Sequence[Explanation], /, **options: Any) -> Any:
        """A `PIL.Image.Image`."""
        ...


class Writer(Protocol):
    """Writes one explanation to one file."""

    name: ClassVar[str]

    def __call__(self, explanation: Explanation, path: Path, /, **options: Any) -> None:
        """Write completely, or leave nothing behind."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where the model's input lies on the original photo.

    Input pixel edges `(u, v)` (rows, columns; 0 to `input_size`) map to photo pixel edges
    `offset + scale * (u, v)`. Photo coordinates are those after the EXIF orientation is applied.
    """

    source_size: tuple[int, int]  # height, width of the photo
    input_size: tuple[int, int]  # height, width of the model input
    scale: tuple[float, float]  # photo pixels per input pixel
    offset: tuple[float, float]  # photo coordinate of the input's top left edge


@dataclass(frozen=True, slots=True)
class Picture:
    """The original photo behind one row of the batch, and where the input lies on it."""

    photo: Any  # PIL.Image.Image, RGB, EXIF applied
    geometry: Geometry


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for the model that remembers its photos; `explain` accepts it as inputs."""

    inputs: Tensor  # [N, C, H, W]
    pictures: tuple[Picture, ...]


class Preprocess(Protocol):
    """From a photo to the model's input."""

    def __call__(self, photo: Any, /) -> Prepared:
        """A batch of one."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Resize, crop, mean, std: JSON-friendly."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model with what is needed to feed it photos; `explain` accepts it as model."""

    model: nn.Module
    spec: str
    weights: str  # "random", a file name, or the name of published weights
    preprocess: Preprocess
    class_names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()  # WordNet ids such as n02123045, in the order of class_names
    multi_label: bool = False  # each class is a question of its own: sigmoid, not softmax
    notes: tuple[str, ...] = field(default=())  # assumptions a user should know
    output: Selector | None = None  # the part that is explained unless the caller names another
    encode_text: Callable[[Sequence[str]], Tensor] | None = None  # T texts to embeddings [T, D]
