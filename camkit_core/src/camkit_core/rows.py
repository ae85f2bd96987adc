"""Perturbed batches that exist one chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TensorRows:
    """Rows that are already in memory. Shapes: `values` [M, ...], `owner` [M]."""

    values: Tensor
    owner: Tensor

    def __len__(self) -> int:
        """M."""
        return len(self.values)

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Rows `rows`."""
        return self.values[rows]
