"""Watches operators run, and tells whether what comes out is an affine function of a tensor.

Every operator of PyTorch passes through here, also those in compiled extensions and behind control
flow. A value that depends on the watched tensor is followed by the memory it lives in. An operator
is accepted only if it is known to be affine in the operands that depend on the tensor; by
induction so is everything that was computed. Anything unknown is refused, and so is reading such
a value into Python, where it could steer the computation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from camkit_core.tree import tensors

_ANY = """
add add_ sub sub_ rsub neg neg_ sum mean cumsum cat stack
view _unsafe_view _reshape_alias reshape alias expand permute transpose t movedim narrow slice
select squeeze unsqueeze split split_with_sizes unbind unfold diagonal as_strided as_strided_ clone
contiguous copy_ _to_copy lift_fresh roll flip repeat
constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d
mkldnn_adaptive_avg_pool2d
upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_linear1d
upsample_bilinear2d pixel_shuffle pixel_unshuffle
"""
_FIRST = """
div div_ gather index_select index take_along_dim masked_fill masked_select linear
convolution _convolution mkldnn_convolution cudnn_convolution _native_batch_norm_legit_no_training
"""
_NEUTRAL = """
empty_like zeros_like ones_like full_like new_empty new_zeros new_ones new_full new_empty_strided
"""
ANY = frozenset(_ANY.split())
"""Affine in all operands together."""
ONE = frozenset({"mul", "mul_", "mm", "bmm", "dot", "mv", "matmul", "outer"})
"""Products: affine if at most one operand depends on the tensor."""
FIRST = frozenset(_FIRST.split())
"""Affine in the first operand, where no other depends on the tensor."""
NEUTRAL = frozenset(_NEUTRAL.split())
"""Read only the shape."""

_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
"""Affine with recorded statistics: the sixth operand says whether it trains."""
_READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data.__get__)  # type: ignore[attr-defined]


class RefusedError(Exception):
    """The computation is not known to be affine."""


class Affine(TorchDispatchMode):
    """Follows `start` until something is refused; `reason` says what, or is empty."""

    def __init__(self, start: Tensor) -> None:
        """`start` is what everything is a function of."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.reason = ""
        self._memory: dict[int, Any] = {}
        self._mark(start)

    def depends(self, tree: Any) -> bool:
        """Whether any tensor in it may depend on the start."""
        return any(_storage(tensor)._cdata in self._memory for tensor in tensors(tree))

    def refuse(self, reason: str) -> None:
        """Stop: also if the model catches the exception, the reason stays.

        Raises:
            RefusedError: always.
        """
        self.reason = self.reason or reason
        raise RefusedError(reason)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Accept or refuse an operator, run it, and follow its results."""
        kwargs = kwargs or {}
        follows = self.depends((args, kwargs))
        neutral = follows and self._name(func) in NEUTRAL
        if follows and not neutral and not self._affine(func, args, kwargs):
            self.refuse(f"{func} is not affine, or not in the operands that depend on the layer")
        output = func(*args, **kwargs)
        if follows and not neutral:
            for tensor in tensors(output):
                if not torch.is_floating_point(tensor):
                    self.refuse(f"{func} turns it into {tensor.dtype}")
                self._mark(tensor)
        return output

    def _mark(self, tensor: Tensor) -> None:
        # The storage is kept, so that its address is not used for another one.
        storage = _storage(tensor)
        self._memory[storage._cdata] = storage

    def _name(self, func: Any) -> str:
        return str(func._overloadpacket.__name__) if func.namespace == "aten" else ""

    def _affine(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        name = self._name(func)
        if "_mode" in func._overloadname:
            return False
        if name in ANY:
            return True
        operands = [one for one in (*args, *kwargs.values()) if self.depends(one)]
        if name in ONE:
            return len(operands) == 1
        if name in FIRST:
            return len(operands) == 1 and operands[0] is args[0]
        if name == "addmm" or name == "baddbmm":
            return sum(self.depends(one) for one in args[1:3]) <= 1
        if name == "where":
            return len(args) == 3 and not self.depends(args[0])
        if name in _NORMS:
            return len(operands) == 1 and operands[0] is args[0] and args[5] is False
        return False


class NoReading(TorchFunctionMode):
    """Refuses ways out of PyTorch that no operator shows."""

    def __init__(self, affine: Affine) -> None:
        """Guard what `affine` follows."""
        super().__init__()
        self._affine = affine

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuse, or call."""
        if func in _READS and self._affine.depends(args):
            self._affine.refuse("its values are read outside of PyTorch")
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()
