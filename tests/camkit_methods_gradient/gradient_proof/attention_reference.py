"""The attention methods as their papers write them, in loops over one image's arrays.

`parts` are the blocks used, `row` the images' index, `rows` the tokens that the score reads; the
result is `[T]`, prefix tokens included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradient_proof.networks import Array
from gradient_proof.transformer import Part


def rollout(parts: Sequence[Part], row: int, rows: Sequence[int], heads: str = "mean") -> Array:
    """Paths through the blocks: probability to come from token i, when at a row that is read."""
    size = parts[0].p.shape[-1]
    flow = np.eye(size)
    for part in parts:
        step = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                per_head = [part.p[row, h, i, j] for h in range(part.p.shape[1])]
                joined = {"mean": np.mean, "max": np.max, "min": np.min}[heads](per_head)
                step[i, j] = (joined + (i == j)) / 2
            step[i] /= step[i].sum()
        flow = step @ flow
    return np.mean([flow[r] for r in rows], axis=0)


def discarded(part: Part, row: int, ratio: float, spare: bool) -> Array:
    """Head average without its smallest entries; `spare` keeps the first whatever it is."""
    joined = part.p[row].mean(0)
    flat = joined.flatten()
    order = sorted(range(len(flat)), key=lambda index: flat[index])
    for index in order[: int(len(flat) * ratio)]:
        if not (spare and index == 0):
            flat[index] = 0
    return flat.reshape(joined.shape)


def rollout_discarding(
    parts: Sequence[Part], row: int, rows: Sequence[int], ratio: float, *, columns: bool
) -> Array:
    """Rollout of thinned weights; `columns` divides column j by the sum of row j."""
    size = parts[0].p.shape[-1]
    flow = np.eye(size)
    for part in parts:
        step = (discarded(part, row, ratio, spare=columns) + np.eye(size)) / 2
        sums = step.sum(1)
        for i in range(size):
            for j in range(size):
                step[i, j] /= sums[j] if columns else sums[i]
        flow = step @ flow
    return np.mean([flow[r] for r in rows], axis=0)


def chefer(parts: Sequence[Part], row: int, rows: Sequence[int]) -> Array:
    """Relevance of token i for the tokens read, without what each has for itself from the start."""
    size = parts[0].p.shape[-1]
    relevance = np.eye(size)
    for part in parts:
        step = np.zeros((size, size))
        for h in range(part.p.shape[1]):
            step += np.maximum(part.g_p[row, h] * part.p[row, h], 0) / part.p.shape[1]
        relevance = relevance + step @ relevance
    return np.mean([relevance[r] - np.eye(size)[r] for r in rows], axis=0)


def legrad(parts: Sequence[Part], row: int, *, own: bool = False) -> Array:
    """Mean over blocks, heads and queries of positive gradients."""
    total = np.zeros(parts[0].p.shape[-1])
    for part in parts:
        slope = (part.g_own if own else part.g_exit)[row]
        for one in slope.reshape(-1, slope.shape[-1]):
            total += np.maximum(one, 0) / (slope.shape[0] * slope.shape[1])
    return total / len(parts)


def gradeclip(parts: Sequence[Part], row: int, rows: Sequence[int], prefix: int) -> Array:
    """Gradient of the output at a row, times values, times how alike query and key are."""
    total = np.zeros(parts[0].p.shape[-1] - prefix)
    for part in parts:
        q, k, v, g = (
            np.concatenate(list(array[row]), axis=-1)
            for array in (part.q, part.k, part.v, part.g_o)
        )
        signed = np.zeros(len(total))
        for r in rows:
            cos = np.array(
                [q[r] @ one / (np.linalg.norm(q[r]) * np.linalg.norm(one)) for one in k[prefix:]]
            )
            loosened = (cos - cos.min()) / (cos.max() - cos.min())
            for i in range(len(total)):
                signed[i] += loosened[i] * (g[r] @ v[prefix + i])
        total += np.maximum(signed, 0)
    return total


def attcat(parts: Sequence[Part], row: int, rows: Sequence[int] | None = None) -> Array:
    """Gradient times token, times the attention that the token gets."""
    size = parts[0].p.shape[-1]
    total = np.zeros(size)
    for part in parts:
        for i in range(size):
            got = [
                part.p[row, h, r, i] for h in range(part.p.shape[1]) for r in rows or range(size)
            ]
            total[i] += np.mean(got) * float(part.g_h[row, i] @ part.h[row, i])
    return total
