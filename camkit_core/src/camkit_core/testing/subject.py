"""What is under test: a camkit method run by camkit's engine, or anybody's explainer function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

from torch import Tensor, nn

from camkit_core.api import explain
from camkit_core.errors import CapabilityError, OptionError
from camkit_core.explanation import Explanation
from camkit_core.need import READS_SCORE, Claim, Need, at_a_layer
from camkit_core.options import method_of
from camkit_core.protocols import Method
from camkit_core.registry import Registry, default_registry
from camkit_core.testing.judge import live
from camkit_core.testing.networks import LAYER, AttentionNet, DeepNet, GapNet, Net, images
from camkit_core.testing.report import ConformanceError
from camkit_core.testing.views import with_views

NetT = TypeVar("NetT", bound=Net)

SEEDS = 12
"""Networks tried to find one that is not degenerate for a method."""

ExplainerFunction = Callable[[nn.Module, Tensor, Any, str], Tensor]
"""`(model, images [N, C, *S], target, layer name) -> raw map [N, *S]`.

The target is a class index, a list with one per image, None for the model's answer, or a function
of one image's output that returns a scalar.
"""


@dataclass(frozen=True)
class Subject:
    """One thing that explains.

    Attributes:
        method: the camkit method, or None for a function with an engine of its own.
        function: that function.
    """

    name: str
    needs: Need
    claims: frozenset[Claim]
    class_discriminative: bool = True
    method: Any = None  # camkit_core.Method
    function: ExplainerFunction | None = None

    @property
    def at_layer(self) -> bool:
        """Whether the map has the layer's resolution rather than the input's."""
        return at_a_layer(self.needs)

    @property
    def reads_score(self) -> bool:
        """Whether the target matters."""
        return bool(self.needs & READS_SCORE)

    @property
    def views(self) -> tuple[str, ...]:
        """What it asks of the bound target instead of its score."""
        return tuple(getattr(self.method, "target_views", ()))

    @property
    def attends(self) -> bool:
        """Whether it is defined on networks with attention only."""
        return Need.ATTENTION in self.needs

    @property
    def on_picture(self) -> bool:
        """Whether the map has the size of a layer: the explained one, or that of the tokens."""
        return self.at_layer or self.attends

    @cached_property
    def needs_head(self) -> bool:
        """Whether it is defined only behind global average pooling and a linear layer."""
        if Need.HEAD in self.needs or self.method is None or self.attends:
            return Need.HEAD in self.needs
        return not self._capable(DeepNet(seed=1)) and self._capable(GapNet(seed=1))

    def _capable(self, net: Net) -> bool:
        try:
            self.raw(net, images(2))
        except CapabilityError:
            return False
        except Exception:
            return True
        return True

    def net(self, attempt: int = 0, **options: Any) -> Net:
        """A network on which the subject is defined and its map is not degenerate.

        `attempt` gives others, which are not looked at first.
        """
        return self.home(seed=self._seed + attempt, **options)

    @property
    def home(self) -> type[Net]:
        """The kind of network on which the subject is defined."""
        if self.attends:
            return AttentionNet
        return GapNet if self.needs_head else DeepNet

    @cached_property
    def _seed(self) -> int:
        return self._telling(self.home, images(4), ([1, 3, 0, 2], 0, 1, 2), 1)

    def on(
        self, kind: type[NetT], x: Tensor, target: Any = 1, seed: int = 1, **options: Any
    ) -> NetT:
        """A network of that kind, with something to show for these images and this target."""
        return kind(seed=self._telling(kind, x, (target,), seed, **options), **options)

    def _telling(
        self, kind: type[Net], x: Tensor, targets: Sequence[Any], first: int, **options: Any
    ) -> int:
        """Seed of the first network with live maps.

        Methods that drop negative weights have nothing to show on some; if none will do, the
        checks say so.
        """
        for seed in range(first, first + SEEDS):
            try:
                net = kind(seed=seed, **options)
                for target in targets:
                    live(self.raw(net, x, target))
            except ConformanceError:
                continue
            except Exception:
                break
            return seed
        return first

    def raw(
        self, net: nn.Module, x: Tensor, target: Any = 1, layer: str = LAYER, seed: int = 0
    ) -> Tensor:
        """The one raw map of an explanation, `[N, *S]`, without whatever graph it carries."""
        return self.answer(net, x, target, layer, seed).detach()

    def answer(
        self, net: nn.Module, x: Tensor, target: Any = 1, layer: str = LAYER, seed: int = 0
    ) -> Tensor:
        """The raw map as it was returned."""
        if self.function is not None:
            return self.function(net, x, target, layer)
        (found,) = self.explain(net, x, target, layer, seed=seed).raw.values()
        return found

    def explain(
        self, net: nn.Module, x: Any, target: Any = 1, layers: Any = LAYER, **words: Any
    ) -> Explanation:
        """An explanation by camkit's engine."""
        assert self.method is not None, "the check should have asked for a camkit method"
        asked = self.asked(target)
        return explain(net, x, self.method, asked, layers, registry=bare_registry(), **words)

    def asked(self, target: Any) -> Any:
        """A target of a check, with the views that the method asks for."""
        return with_views(target, self.views)


@cache
def bare_registry() -> Registry:
    """No plugins: what is installed beside the object under test must not change a verdict."""
    return Registry(discover=False)


def explainer(
    name: str,
    function: ExplainerFunction,
    *,
    claims: Iterable[Claim] = (Claim.DETERMINISTIC,),
    needs: Need = Need.ACTIVATIONS | Need.GRADIENTS,
    class_discriminative: bool = True,
) -> Subject:
    """A subject with an engine of its own: another library's method, say.

    Checks of camkit's engine do not apply to it. `claims` and `needs` describe the algorithm.
    """
    return Subject(name, needs, frozenset(claims), class_discriminative, None, function)


def subject_of(request: Any, claims: Iterable[Claim] | None = None) -> Subject:
    """A subject from an instance, a class, a registered name or specification, or a subject.

    Raises:
        OptionError: not a method; or `claims` beside a subject, which has its own.
    """
    if isinstance(request, Subject):
        if claims is not None:
            raise OptionError("claims= goes with a method; a Subject already has its own")
        return request
    method = _method(request)
    own = getattr(method, "claims", frozenset({Claim.DETERMINISTIC}))
    return Subject(
        method.name,
        method.needs,
        frozenset(own if claims is None else claims),
        getattr(method, "class_discriminative", True),
        method,
    )


def _method(request: Any) -> Method:
    if isinstance(request, type):
        request = request()
    return method_of(request, default_registry())


# -- when a check does not apply --------------------------------------------------------------


def own_engine(subject: Subject) -> str:
    """For checks of what camkit's engine reports."""
    return "it runs its own engine, not camkit's" if subject.method is None else ""


def linear_head_only(subject: Subject) -> str:
    """For checks whose network has another head."""
    return "it is defined behind average pooling and a linear layer only" * subject.needs_head


def attention_only(subject: Subject) -> str:
    """For checks whose network has no attention."""
    return "it is defined on networks with attention only" * subject.attends


def blind(subject: Subject) -> str:
    """For checks of what the target does."""
    return "" if subject.reads_score else "it does not read the score"


def in_input_space(subject: Subject) -> str:
    """For checks of what happens at a layer."""
    return "" if subject.at_layer else "it explains in input space"


def no_rows(subject: Subject) -> str:
    """For checks of perturbed runs."""
    rows = Need.SCORES | Need.TAIL | Need.RECAPTURE
    return "" if subject.needs & rows else "it does not run the model again"


def both(*conditions: Callable[[Subject], str]) -> Callable[[Subject], str]:
    """The first condition that says no."""
    return lambda subject: next((why for c in conditions if (why := c(subject))), "")
