"""Which clean image each row belongs to, and how clean values become values of rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camkit_core.inputs import ModelInputs
from camkit_core.tree import map_tensors, take


@dataclass(frozen=True, slots=True)
class Owners:
    """Owners of M rows.

    Attributes:
        index: `[M]`, the image of each row.
        images: N.
        alone: the image that all rows belong to, None if there are several.
        clean: row i belongs to image i, and there is one for each.
    """

    index: Tensor
    images: int
    alone: int | None
    clean: bool = False

    @classmethod
    def of(cls, index: Tensor, images: int) -> Owners:
        """Look whether all rows have one owner."""
        rows = index.tolist()
        alone = rows[0] if rows and len(set(rows)) == 1 else None
        return cls(index, images, alone, rows == list(range(images)))

    def to(self, device: torch.device) -> Owners:
        """The same on another device."""
        return Owners(self.index.to(device), self.images, self.alone, self.clean)

    def spread(self, tree: Any, *, copy: bool = False) -> Any:
        """The owners' values, one for each row; without memory of their own where possible."""
        if self.clean and not copy:
            return tree
        if copy:  # what belongs to no image gets memory of its own, too
            tree = map_tensors(lambda t: t if self._rows(t) else t.clone(), tree)
        if self.alone is None:
            return take(tree, self.index, self.images)
        if isinstance(tree, list) and len(tree) == self.images and self.images > 1:
            return take(tree, self.index, self.images)

        def widen(tensor: Tensor) -> Tensor:
            if not self._rows(tensor):
                return tensor
            assert self.alone is not None
            one = tensor[self.alone : self.alone + 1]
            rows = one.expand(len(self.index), *tensor.shape[1:])
            return rows.clone(memory_format=torch.contiguous_format) if copy else rows

        return map_tensors(widen, tree)

    def _rows(self, tensor: Tensor) -> bool:
        return tensor.ndim > 0 and len(tensor) == self.images

    def inputs(
        self, inputs: ModelInputs, common: Collection[int | str] = (), *, copy: bool = False
    ) -> ModelInputs:
        """Arguments of a call with the owners' images; `common` ones stay as they are."""

        def rows(key: int | str, value: Any) -> Any:
            return value if key in common else self.spread(value, copy=copy)

        args = tuple(rows(key, value) for key, value in enumerate(inputs.args))
        kwargs = {name: rows(name, value) for name, value in inputs.kwargs.items()}
        return ModelInputs(args, kwargs, inputs.key)
