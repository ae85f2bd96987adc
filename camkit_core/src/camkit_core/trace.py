"""What the modules around a layer returned during the clean pass.

The family of a layer is every child of the modules on the way to it. What the family's calls
returned before the layer did is all that the rest of the model needs of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from camkit_core.layers import Layer
from camkit_core.shadow import unwrap
from camkit_core.tree import children, map_tensors, tensors
from camkit_core.unread import Flag, Placeholder

Place = tuple[str, int]
"""Name of a family member and number of its call."""

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)


@dataclass(slots=True)
class Returned:
    """What one call returned. `tensors` have the versions they had then, plus skipped writes."""

    output: Any
    versions: list[tuple[Tensor, int]]

    @property
    def rewritten(self) -> bool:
        """Whether code that runs again later wrote to it."""
        return any(tensor._version != version for tensor, version in self.versions)


@dataclass
class Trace:
    """The calls of one layer's family that finished before the layer did, in one pass.

    Attributes:
        family: name -> module, for every member whose call can be told from outside.
        calls: what the calls of each member returned, in order; None for what is no container of
            tensors, so that the call has to be made again.
        index: which of the layer's counted calls is the captured one.
        problem: why the pass cannot be cut at this layer, or nothing.
        chains: member of a plain sequence -> the member before it, whose output only it reads if
            the sequence is called, and the sequence.
        unread: calls whose output is not kept, because nothing is known to read it again.
        flag: raised if it is read after all.
    """

    layer: Layer
    family: dict[str, nn.Module]
    copied: frozenset[Place] = frozenset()
    calls: dict[str, list[Returned | None]] = field(default_factory=dict)
    index: int = -1
    problem: str = ""
    chains: dict[str, tuple[str, nn.Module]] = field(default_factory=dict)
    unread: frozenset[Place] = frozenset()
    flag: Flag = field(default_factory=Flag)
    _called: set[int] = field(default_factory=set)
    _depth: int = 0
    _seen: int = 0
    _before: list[tuple[Tensor, int]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layer: Layer,
        copied: frozenset[Place] = frozenset(),
        unread: frozenset[Place] = frozenset(),
    ) -> Trace:
        """Ready to be attached to a pass."""
        members = family(model, layer)
        chains = _chains(model, layer, members)
        return cls(layer, members, copied, chains=chains, unread=unread)

    @property
    def done(self) -> bool:
        """The layer has returned."""
        return self.index >= 0 or bool(self.problem)

    @property
    def rewritten(self) -> frozenset[Place]:
        """Calls whose output was changed in place by code that a tail runs again."""
        return frozenset(
            (name, number)
            for name, calls in self.calls.items()
            for number, call in enumerate(calls)
            if call is not None and call.rewritten
        )

    @property
    def incomplete(self) -> bool:
        """An output that was not kept turned out to be needed."""
        return self.flag.raised

    def without(self, places: frozenset[Place]) -> Trace:
        """The same with placeholders for what these calls returned."""
        flag = Flag()

        def changed(place: Place, call: Returned | None) -> Returned | None:
            if place not in places or call is None or not isinstance(call.output, Tensor):
                return call
            return Returned(Placeholder(call.output, flag), [])

        calls = {
            name: [changed((name, number), call) for number, call in enumerate(returned)]
            for name, returned in self.calls.items()
        }
        return replace(self, calls=calls, unread=places, flag=flag)

    def attach(
        self, find: Callable[[nn.Module], nn.Module], active: Callable[[], bool]
    ) -> Iterator[RemovableHandle]:
        """Hooks on the twins of the family; they hear nothing while `active()` is false."""
        for sequence in {id(one): one for _, one in self.chains.values()}.values():
            begin = partial(self._begin, active, id(sequence))
            yield find(sequence).register_forward_pre_hook(begin)
        for name, module in self.family.items():
            twin = find(module)
            before = partial(self._enter, active)
            yield twin.register_forward_pre_hook(before, with_kwargs=True)
            yield twin.register_forward_hook(partial(self._leave, active, name))

    def _begin(self, active: Callable[[], bool], key: int, module: nn.Module, args: Any) -> None:
        """A sequence that is never called is only a list: others read what its members return."""
        if active():
            self._called.add(key)

    def _enter(self, active: Callable[[], bool], module: nn.Module, args: Any, kwargs: Any) -> None:
        if not active():
            return
        self._depth += 1
        if self._depth == 1 and not self.done:
            self._before = [
                (tensor, tensor._version)
                for tensor in tensors((args, kwargs))
                if not tensor.is_inference()
            ]

    def _leave(
        self, active: Callable[[], bool], name: str, module: nn.Module, args: Any, output: Any
    ) -> None:
        if not active():
            return
        self._depth -= 1
        captured = name == self.layer.path and self._captured()
        if self.done:
            return
        if captured:
            self._stop(name)
        elif not self._depth:
            self._excuse()
            found = self._returned(name, output)
            self.calls.setdefault(name, []).append(found)
            before, sequence = self.chains.get(name, ("", None))
            if found is not None and id(sequence) in self._called:
                self._forget(self.calls.get(before, []))

    def _captured(self) -> bool:
        self._seen += 1
        return self._seen - 1 == (self.layer.call or 0)

    def _stop(self, name: str) -> None:
        if self._depth:
            self.problem = "the layer also runs inside another module at the same level"
        else:
            self.index = len(self.calls.get(name, ()))

    def _excuse(self) -> None:
        """Writes by a call that a tail skips are part of what is returned instead."""
        for tensor, version in self._before:
            written = tensor._version - version
            if written:
                self._forgive(tensor.untyped_storage().data_ptr(), written)

    def _forgive(self, storage: int, written: int) -> None:
        for calls in self.calls.values():
            for call in calls:
                if call is not None:
                    call.versions = [
                        (t, v + written * (t.untyped_storage().data_ptr() == storage))
                        for t, v in call.versions
                    ]

    def _forget(self, calls: list[Returned | None]) -> None:
        """Free an output that only a call which is skipped would read."""
        if calls and (last := calls[-1]) is not None:
            last.output, last.versions = None, []

    def _returned(self, name: str, output: Any) -> Returned | None:
        if not understood(output):
            return None
        place = (name, len(self.calls.get(name, ())))
        if place in self.unread and isinstance(output, Tensor):
            return Returned(Placeholder(output, self.flag), [])
        copied = place in self.copied
        kept = map_tensors(lambda t: t.detach().clone() if copied else t.detach(), output)
        found = [] if copied else [t for t in tensors(kept) if not t.is_inference()]
        return Returned(kept, [(tensor, tensor._version) for tensor in found])


def understood(tree: Any) -> bool:
    """Whether a value consists of containers, tensors and constants only."""
    if isinstance(tree, (Tensor, torch.Size, *_PLAIN)):
        return True
    found = children(tree)
    return found is not None and all(map(understood, found))


def family(model: nn.Module, layer: Layer) -> dict[str, nn.Module]:
    """Children of the modules on the way to a layer, but not those modules; the layer itself.

    Left out is what runs without hooks, or answers otherwise than its hooks see.
    """
    way = list(_way(model, layer.path))
    on_it = {id(module) for _, module in way}
    found: dict[str, nn.Module] = {}
    known = set(on_it)
    for path, module in way:
        for name, child in module._modules.items():
            # Past wrappers: they have no twin of their own.
            inner = None if child is None else unwrap(child)
            if inner is None or id(inner) in known or not _told(inner):
                continue
            known.add(id(inner))
            found[f"{path}.{name}" if path else name] = inner
    return _with(found, layer)


def _chains(
    model: nn.Module, layer: Layer, members: dict[str, nn.Module]
) -> dict[str, tuple[str, nn.Module]]:
    sequences = [
        parent
        for _, parent in _way(model, layer.path)
        if type(parent).forward is nn.Sequential.forward and "forward" not in parent.__dict__
    ]
    if not sequences:
        return {}
    # Members that have other places too may be read there.
    parents = (parent._modules.values() for parent in model.modules())
    places = Counter(id(child) for children in parents for child in children)
    names = {id(module): name for name, module in members.items() if places[id(module)] == 1}
    return {
        names[id(two)]: (names[id(one)], sequence)
        for sequence in sequences
        for one, two in itertools.pairwise(sequence._modules.values())
        if id(one) in names and id(two) in names
    }


def _with(found: dict[str, nn.Module], layer: Layer) -> dict[str, nn.Module]:
    """The layer under the name the user gave, also where another name comes first."""
    wanted = unwrap(layer.module)
    rest = {name: module for name, module in found.items() if module is not wanted}
    return {**rest, layer.path: wanted}


def _way(model: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    module, before = unwrap(model), list[str]()
    for part in path.split("."):
        yield ".".join(before), module
        child = module._modules[part]
        assert child is not None
        module = unwrap(child)
        before.append(part)


def _told(module: nn.Module) -> bool:
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return False
    return type(module).__call__ is nn.Module.__call__
