"""One call of `explain` or `compare`, from what the user gave to finished explanations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from camkit_core import __version__
from camkit_core.attention_read import attention_of
from camkit_core.capture import PROVIDED, Capture
from camkit_core.declared import overrun
from camkit_core.errors import (
    CamkitError,
    CapabilityError,
    InputError,
    OptionError,
    TargetError,
)
from camkit_core.explanation import INPUT, Explanation, Issue, Provenance
from camkit_core.inputs import ModelInputs
from camkit_core.judge import is_finite, issues_of, ranges, refuse, without
from camkit_core.layers import Layer, resolve_layers
from camkit_core.need import DIFFERENTIABLE, READS_SCORE, RUNS_AGAIN, Need, at_a_layer
from camkit_core.outputs import Selector, class_scores
from camkit_core.planner import memory_limit
from camkit_core.post import DEFAULT_POST, Post, as_post
from camkit_core.probe import default_layer
from camkit_core.protocols import Method, Picture, Prepared, TargetContext, TargetInfo
from camkit_core.registry import Registry
from camkit_core.requests import TargetRequest, as_target, named
from camkit_core.session import Session
from camkit_core.targets import BoundNothing
from camkit_core.tree import map_tensors

if TYPE_CHECKING:
    from camkit_core.api import Explainer

MethodRequest = str | Method
Progress = Callable[[float, int], None]
"""`progress(done, total)`: maps done, called after every map, and with fractions of one while rows
of perturbed images or activations are scored."""


@dataclass(frozen=True)
class Words:
    """The engine's own words: how to run, not what to compute."""

    output: Selector | None = None
    precision: Literal["exact", "fast"] = "exact"
    budget: int | None = None
    batch_size: int | str | None = None
    seed: int = 0
    post: Any = DEFAULT_POST
    progress: Progress | None = None
    image: int | str | None = None
    differentiable: bool = False

    def __post_init__(self) -> None:
        """Check the words that have few legal values.

        Raises:
            OptionError: an illegal value.
        """
        if self.precision not in ("exact", "fast"):
            raise OptionError(f"precision={self.precision!r} must be 'exact' or 'fast'")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise OptionError(f"seed={self.seed!r} must be an integer")
        chunk = self.batch_size
        rows = memory_limit(chunk) if isinstance(chunk, str) else chunk
        for name, value in (("budget", self.budget), ("batch_size", rows)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise OptionError(f"{name}={value!r} must be a positive integer")


@dataclass(slots=True)
class _Job:
    """One explanation in the making: a method and a target."""

    key: tuple[Any, int]
    method: Method
    target: int
    raw: dict[str, Tensor] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    maps: Tensor | None = None


class Call:
    """One call of `explain` or `compare`, in the order of the architecture."""

    def __init__(
        self,
        explainer: Explainer,
        words: Words,
        inputs: Any,
        methods: Sequence[tuple[MethodRequest, Method]],
        targets: Sequence[TargetRequest],
    ) -> None:
        self.explainer = explainer
        self.words = words
        self.post: Post = as_post(words.post)
        self.pictures: tuple[Picture, ...] = ()
        if isinstance(inputs, Prepared):
            inputs, self.pictures = inputs.inputs, inputs.pictures
        self.inputs = ModelInputs.of(inputs, words.image)
        if len(self.pictures) not in (0, len(self.inputs.image)):
            raise InputError(
                f"Prepared has {len(self.pictures)} pictures for {len(self.inputs.image)} images"
            )
        self.targets = list(targets)
        self.jobs = [
            _Job((given, position), method, position)
            for position in range(len(targets))
            for given, method in methods
        ]
        self.needs = reduce(or_, (method.needs for _, method in methods), Need.NONE)
        _check_provided([method for _, method in methods])
        if words.differentiable:
            _check_differentiable([method for _, method in methods])
        self.extra_forwards = 0
        self._cards: dict[int, tuple[str, str, Mapping[str, Any]]] = {}
        self._infos: dict[int, TargetInfo] = {}

    def run(self) -> dict[tuple[Any, int], Explanation]:
        """Explanations keyed (method as given, position of the target)."""
        with torch.inference_mode(False), torch.no_grad():
            self.session = self._session()
            with self.session.arithmetic(grad=self.words.differentiable):
                self._bind()
                self._explain()
                return {job.key: self._explanation(job) for job in self.jobs}

    def _explain(self) -> None:
        for done, job in enumerate(self._ordered()):
            self._report(done)
            self._maps(job)
            if self.words.progress:
                self.words.progress(done + 1, len(self.jobs))
        self._judge_all()
        for job in self.jobs:
            job.maps = self.post(list(job.raw.values()), self.inputs.image.shape[2:])

    def _report(self, done: int) -> None:
        """Have the rows of the next map tell how far they are."""
        told, total, progress = 0.0, len(self.jobs), self.words.progress

        def tell(part: float) -> None:
            nonlocal told
            assert progress is not None
            # A method may score rows several times; nobody wants to see it go back.
            if told < part < 1:
                told = part
                progress(done + part, total)

        self.session.progress = tell if progress else None

    def _ordered(self) -> Iterator[_Job]:
        """Jobs in order; the graph goes before the model is run again, to leave memory for that."""
        late = [job for job in self.jobs if job.method.needs & RUNS_AGAIN]
        needs = reduce(or_, (job.method.needs for job in late), Need.NONE)
        if not late or needs & (Need.SECOND_ORDER | Need.INPUT_GRADIENTS):
            yield from self.jobs
            return
        # Gradients are there in the order of the targets only: the last one frees the graph.
        for target in range(len(self.session.bound)):
            mine = [job for job in self.jobs if job.target == target]
            yield from (job for job in mine if not job.method.needs & RUNS_AGAIN)
            self._keep_gradients(target, reduce(or_, (job.method.needs for job in mine)) & needs)
        self.session.release()
        yield from late

    def _keep_gradients(self, target: int, needs: Need) -> None:
        """Compute what methods that come later will ask for."""
        if Need.GRADIENTS not in needs:
            return
        # If there is none, the method that asks for it will say so better.
        with suppress(CamkitError):
            for name in self._names:
                self.session.keep(target, name)
            if self.session.attended:
                attention_of(self.session, target, gradients=True)

    def _session(self) -> Session:
        needs = [job.method.needs for job in self.jobs]
        reads_layers = any(map(at_a_layer, needs))
        both = Need.ATTENTION | Need.GRADIENTS
        return Session(
            self.explainer.model,
            self.inputs,
            self._layers() if reads_layers else (),
            self.needs,
            self.explainer.registry,
            selector=self.words.output,
            reshape=self.explainer.reshape,
            attended=any(both in one for one in needs),
            differentiable=self.words.differentiable,
            batch_size=self.words.batch_size,
            budget=self.words.budget,
            precision=self.words.precision,
        )

    def _layers(self) -> tuple[Layer, ...]:
        explainer = self.explainer
        if explainer.layers is not None:
            # By name again: the user may have replaced a module since.
            return resolve_layers(explainer.model, [layer.name for layer in explainer.layers])
        name, self.extra_forwards = default_layer(
            explainer.model,
            self.inputs,
            self.targets[0],
            selector=self.words.output,
            reshape=explainer.reshape,
            registry=explainer.registry,
            loaded=explainer.loaded,
            scored=self._scored,
        )
        return resolve_layers(explainer.model, name)

    @property
    def _scored(self) -> bool:
        """Whether any method looks at the score, or the user named a target."""
        return bool(self.needs & READS_SCORE) or self.targets != [None]

    def _unscorable(self) -> bool:
        try:
            return class_scores(self.session.explained).shape[1] < 2
        except TargetError:
            return True

    def _bind(self) -> None:
        if not self._scored and self._unscorable():
            self.session.adopt((BoundNothing(),))
            return
        explainer = self.explainer
        output = map_tensors(Tensor.detach, self.session.explained)
        context = TargetContext(
            model=explainer.model,
            image=self.inputs.image,
            class_names=explainer.class_names,
            loaded=explainer.loaded,
            pictures=self.pictures,
        )
        self.session.bind(
            [as_target(request, output, explainer.registry, context) for request in self.targets]
        )

    def _maps(self, job: _Job) -> None:
        try:
            self._compute(job)
        except KeyboardInterrupt as error:
            error.add_note(self._finished(job))
            raise
        except Exception as error:
            error.add_note(self._finished(job))
            if not self.session.is_finite(job.target):
                refuse(self.session, job.target, job.method.name)
            raise

    def _finished(self, job: _Job) -> str:
        """What was done before something went wrong."""

        def name(one: _Job) -> str:
            return f"{one.method.name} of {self.session.bound[one.target].describe().label}"

        done = [name(one) for one in self.jobs if one.raw and one is not job]
        return f"camkit: in {name(job)}; finished before: {', '.join(done) or 'nothing'}"

    def _compute(self, job: _Job) -> None:
        method = job.method
        if len(self._info(job.target).absent) == len(self.inputs.image):
            self._nothing(job)
        elif not at_a_layer(method.needs):
            job.raw[INPUT] = self._checked(job, self._ran(job, ""), INPUT)
        elif Need.LAYERS in method.needs:
            job.raw["+".join(self._names)] = self._checked(job, self._ran(job, ""), "")
        else:
            for layer in self._names:
                job.raw[layer] = self._checked(job, self._ran(job, layer), layer)

    def _ran(self, job: _Job, layer: str) -> Any:
        """What the method returned; that it ran the model as often as it says is checked."""
        before = self.session.asked
        raw = job.method(self._capture(job, layer))
        more = overrun(job.method, self.session, layer, self.session.asked - before)
        if more:
            job.issues.append(Issue("more_runs", more, (), layer))
        return raw

    def _nothing(self, job: _Job) -> None:
        """Empty maps of the right shape for an empty batch, or one without what is explained."""
        if not at_a_layer(job.method.needs):
            job.raw[INPUT] = torch.zeros_like(self.session.image[:, 0])
        for layer in self._names if at_a_layer(job.method.needs) else ():
            job.raw[layer] = torch.zeros_like(self.session.activations(layer)[:, 0])

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.session.layers)

    def _capture(self, job: _Job, layer: str) -> Capture:
        return Capture(
            self.session,
            job.target,
            layer,
            job.method.needs,
            job.method.name,
            self.words.seed,
            job.issues,
        )

    def _checked(self, job: _Job, raw: Any, layer: str) -> Tensor:
        image = self.inputs.image
        if not isinstance(raw, Tensor) or raw.ndim != image.ndim - 1 or len(raw) != len(image):
            shape = list(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise CapabilityError(
                f"method {job.method.name} returned {shape} at {layer or 'all layers'}; a raw map "
                f"is [N, *S] with N = {len(image)} and {image.ndim - 2} spatial axes"
            )
        found = raw.clone()  # a result owns its memory, also where rows were expanded
        absent = self._info(job.target).absent
        if absent:
            found[list(absent)] = 0
        return found

    def _judge_all(self) -> None:
        """Look at all maps of equal shape together."""
        groups: dict[Any, list[_Job]] = {}
        for job in self.jobs:
            key = tuple((name, raw.shape, raw.dtype) for name, raw in job.raw.items())
            groups.setdefault(key, []).append(job)
        self._judge_scores()
        for jobs in groups.values():
            self._judge(jobs)

    def _judge_scores(self) -> None:
        bound = self.session.bound
        if any(isinstance(target, BoundNothing) for target in bound):
            return
        scores = [self.session.score(target).detach() for target in range(len(bound))]
        if math.isfinite(torch.stack(scores).sum()):
            return
        for target, score in enumerate(scores):
            if not bool(torch.isfinite(score).all()):
                refuse(self.session, target, self.jobs[0].method.name)

    def _judge(self, jobs: list[_Job]) -> None:
        layers, images = list(jobs[0].raw), len(self.inputs.image)
        extents = ranges([torch.cat([job.raw[layer] for job in jobs]) for layer in layers])
        for position, job in enumerate(jobs):
            part = slice(position * images, (position + 1) * images)
            mine = [pairs[part] for pairs in extents]
            if not is_finite(mine):
                refuse(self.session, job.target, job.method.name)
            info = self._info(job.target)
            found = issues_of(layers, list(job.raw.values()), mine)
            job.issues += [*info.issues, *without(found, info.absent)]

    def _explanation(self, job: _Job) -> Explanation:
        assert job.maps is not None
        info = self._info(job.target)
        return Explanation(
            maps=job.maps,
            raw=job.raw,
            score=self.session.score(job.target),
            output=self.session.output,
            inputs=self.session.image,
            target=info,
            provenance=self._provenance(job, info),
            issues=tuple(job.issues),
            pictures=self.pictures,
            registry=self.explainer.registry,
        )

    def _info(self, target: int) -> TargetInfo:
        if target not in self._infos:
            info = self.session.bound[target].describe()
            self._infos[target] = named(info, self.explainer.class_names)
        return self._infos[target]

    def _card(self, method: Method) -> tuple[str, str, Mapping[str, Any]]:
        """Distribution, version and parameters, looked up once per method."""
        if id(method) not in self._cards:
            origin = _origin(method, self.explainer.registry)
            self._cards[id(method)] = (*origin, _parameters(method))
        return self._cards[id(method)]

    def _provenance(self, job: _Job, info: TargetInfo) -> Provenance:
        session, image = self.session, self.inputs.image
        package, version, parameters = self._card(job.method)
        layers = () if INPUT in job.raw else self._names
        return Provenance(
            method=job.method.name,
            parameters=parameters,
            package=package,
            version=version,
            core_version=__version__,
            layers=layers,
            reshape={name: repr(session.reshapes[name]) for name in layers},
            target=info.label,
            seed=self.words.seed,
            dtype=str(image.dtype).removeprefix("torch."),
            device=str(image.device),
            input_shape=tuple(image.shape),
            post=self.post.description,
            forwards=session.tally.forwards + self.extra_forwards,
            backwards=session.tally.backwards,
            tails=session.tally.tails,
            notes=(*session.done.notes, *session.notes),
        )


def _check_provided(methods: Sequence[Method]) -> None:
    for method in methods:
        missing = method.needs & ~PROVIDED
        if missing:
            raise CapabilityError(
                f"method {method.name} needs {', '.join(missing.words())}, which this version of "
                "camkit-core cannot capture; upgrade camkit-core"
            )


def _check_differentiable(methods: Sequence[Method]) -> None:
    for method in methods:
        missing = method.needs & ~DIFFERENTIABLE
        if missing:
            raise CapabilityError(
                f"method {method.name} needs {', '.join(missing.words())}, through which no "
                "gradient of the map reaches the model; differentiable=True is for methods that "
                "read activations and gradients of one pass, e.g. gradcam, hirescam or layercam"
            )


def _parameters(method: Method) -> Mapping[str, Any]:
    dump = getattr(method, "model_dump", None)
    return dump(mode="json") if dump else {}


def _origin(method: Method, registry: Registry) -> tuple[str, str]:
    """Distribution and version a method comes from, or its module for methods of no plugin."""
    ref = f"{type(method).__module__}:{type(method).__qualname__}"
    for plugin in registry.plugins:
        if any(entry.ref == ref for entry in plugin.entries):
            return plugin.distribution, plugin.version
    return type(method).__module__, "unregistered"
