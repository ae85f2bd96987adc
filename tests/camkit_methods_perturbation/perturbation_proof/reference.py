"""Every method again: slow, from the equations, in plain NumPy and float64.

One image at a time. `a[k][p]` is the activation of channel k at position p, `g` the gradient of
the score there, `x` the image `[C, *S]`, `f(x)` its score and `y(a)` the score of activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], float]
Size = tuple[int, ...]


def weighted_sum(w: Sequence[float] | Array, a: Array) -> Array:
    """`sum_k w[k] a[k]`."""
    picture = np.zeros(a.shape[1:])
    for weight, channel in zip(w, a, strict=True):
        picture = picture + weight * channel
    return picture


def softmax(values: Array) -> Array:
    """`exp(v) / sum exp(v)`."""
    powers = np.array([math.exp(v - max(values)) for v in values])
    return powers / powers.sum()


def relu(values: Array) -> Array:
    """Negative values to 0."""
    return np.array(values) * (np.array(values) > 0)


def along(length: int, target: int, corners: bool) -> list[list[tuple[int, float]]]:
    """For each target pixel, the source pixels and their weights."""
    rows = []
    for i in range(target):
        if corners:
            place = i * (length - 1) / (target - 1) if target > 1 else 0.0
        else:
            place = (i + 0.5) * length / target - 0.5
        place = min(max(place, 0.0), length - 1.0)
        low = min(int(place), max(length - 2, 0))
        rows.append([(low, 1 - (place - low)), (min(low + 1, length - 1), place - low)])
    return rows


def resize(m: Array, size: Size, corners: bool = False) -> Array:
    """Linear interpolation of one map, pixel by pixel."""
    axes = [along(n, t, corners) for n, t in zip(m.shape, size, strict=True)]
    result = np.zeros(size)
    for target in np.ndindex(*size):
        for corner in product(*(axis[i] for axis, i in zip(axes, target, strict=True))):
            place = tuple(index for index, _ in corner)
            result[target] += math.prod(weight for _, weight in corner) * m[place]
    return result


def unit(m: Array, epsilon: float = 0.0) -> Array:
    """To [0, 1]; a constant map becomes 0."""
    span = m.max() - m.min()
    return np.zeros_like(m) if span == 0 else (m - m.min()) / (span + epsilon)


def mask(m: Array, size: Size, order: str = "paper") -> Array:
    """A channel as a mask of the image."""
    if order == "torchcam":
        return resize(unit(m, 1e-8), size)
    if order == "grad-cam":
        return unit(resize(m, size, corners=True), 1e-8)
    return unit(resize(m, size))


def score_weights(a: Array, x: Array, f: Score, order: str = "paper") -> Array:
    """`f(x * H_k)` for each channel."""
    return np.array([f(x * mask(channel, x.shape[1:], order)) for channel in a])


def scorecam(
    a: Array, x: Array, f: Score, order: str = "paper", normalize: str = "softmax"
) -> Array:
    """Score-CAM, arXiv 1910.01279 eq. 3 to 6."""
    increase = score_weights(a, x, f, order) - f(x * 0)
    how = {"softmax": softmax, "relu": relu, "none": np.array}
    return weighted_sum(how[normalize](increase), a)


def scorecam_authors(a: Array, x: Array, f: Score) -> Array:
    """The released code: the score itself is the weight, channels without contrast are skipped."""
    w = [0.0 if c.max() == c.min() else s for c, s in zip(a, score_weights(a, x, f), strict=True)]
    return weighted_sum(w, a)


def gscorecam(a: Array, g: Array, x: Array, f: Score, top: int, authors: bool = False) -> Array:
    """gScoreCAM: Score-CAM on the channels of largest mean gradient."""
    best = sorted(range(len(a)), key=lambda k: -g[k].mean())[:top]
    order = "grad-cam" if authors else "paper"
    scores = np.array([f(x * mask(a[k], x.shape[1:], order)) for k in best])
    w = np.zeros(len(a))
    if authors:
        w[best] = scores
        return weighted_sum(softmax(w), a)
    w[best] = softmax(scores)
    return weighted_sum(w, a)


def sscam(a: Array, x: Array, f: Score, noise: Array, on_input: bool = False) -> Array:
    """SS-CAM, arXiv 2006.14255; noise fields are given."""
    w = []
    for channel in a:
        m = mask(channel, x.shape[1:])
        scores = [f(x * m + n) if on_input else f(x * (m + n)) for n in noise]
        w.append(math.fsum(scores) / len(scores))
    return weighted_sum(softmax(np.array(w)), a)


def iscam(a: Array, x: Array, f: Score, steps: int, order: str = "paper") -> Array:
    """IS-CAM, arXiv 2010.03023; torchcam adds up its factors."""
    factors = [i / steps for i in range(1, steps + 1)]
    if order == "torchcam":
        factors = [math.fsum(factors[: i + 1]) for i in range(steps)]
    w = []
    for channel in a:
        m = mask(channel, x.shape[1:], order)
        w.append(math.fsum(f(c * x * m) for c in factors) / steps)
    return weighted_sum(softmax(np.array(w)), a)


def blurred(x: Array, side: int = 51, sigma: float = 50.0) -> Array:
    """Gaussian blur, mirrored at the borders without repeating the border pixel."""
    offsets = range(-(side // 2), side // 2 + 1)
    kernel = np.array([math.exp(-(o**2) / (2 * sigma**2)) for o in offsets])
    kernel = kernel / kernel.sum()
    for axis in range(1, x.ndim):
        result = np.zeros_like(x)
        for i in range(x.shape[axis]):
            for weight, offset in zip(kernel, offsets, strict=True):
                source = np.take(x, mirrored(i + offset, x.shape[axis]), axis)
                where = [slice(None)] * x.ndim
                where[axis] = i  # type: ignore[call-overload]
                result[tuple(where)] += weight * source
        x = result
    return x


def mirrored(i: int, n: int) -> int:
    """Index bounced between 0 and n - 1."""
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
        if n == 1:
            return 0
    return i


def percentile(values: Array, percent: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values.ravel())
    place = percent / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def groupcam(
    a: Array,
    g: Array,
    x: Array,
    f: Score,
    groups: int,
    denoise: float = 70.0,
    fill: str = "blur",
    signed: bool = False,
) -> Array:
    """Group-CAM, arXiv 2103.13859; blocks of channels as equal as possible, larger ones first."""
    size, rest = divmod(len(a), groups)
    background = blurred(x) if fill == "blur" else x * 0
    picture, start = np.zeros(x.shape[1:]), 0
    for number in range(groups):
        stop = start + size + (number < rest)
        group = relu(sum(g[k].mean() * a[k] for k in range(start, stop)))  # type: ignore[arg-type]
        if denoise:
            group = np.where(group > percentile(group, denoise), group, 0.0)
        m = mask(group, x.shape[1:])
        gain = f(x * m + background * (1 - m)) - f(background)
        picture += (gain if signed or gain > 0 else 0.0) * m
        start = stop
    return picture


def clustercam(a: Array, x: Array, f: Score, clusters: list[list[int]], everything: bool) -> Array:
    """Cluster-CAM, arXiv 2302.01642, clusters given: v best - (1 - v) worst."""
    means = np.array([sum(a[k] for k in cluster) / len(cluster) for cluster in clusters])
    w = softmax(score_weights(means, x, f))
    if everything:
        return weighted_sum(w, means)
    best, worst = int(np.argmax(w)), int(np.argmin(w))
    return w[best] * means[best] - (1 - w[best]) * means[worst]


def cosinecam(a: Array, g: Array, x: Array, f: Score, clusters: list[list[int]]) -> Array:
    """Cosine-CAM, clusters given."""
    maps = np.array([(gk * ak).mean() * ak for gk, ak in zip(g, a, strict=True)])
    means = np.array([sum(maps[k] for k in cluster) / len(cluster) for cluster in clusters])
    background = blurred(x)
    gains = []
    for mean in means:
        m = mask(mean, x.shape[1:])
        gains.append(f(x * m + background * (1 - m)) - f(background))
    length = math.sqrt(math.fsum(gain**2 for gain in gains))
    return weighted_sum([gain / length for gain in gains], means)


def poly_weights(a: Array, x: Array, f: Score, variant: str) -> Array:
    """Poly-CAM's channel weights, arXiv 2204.13359."""
    masks = [mask(channel, x.shape[1:], "torchcam") for channel in a]
    shown = np.array([f(x * m) for m in masks])
    hidden = np.array([f(x * (1 - m)) for m in masks])
    if variant == "plus":
        return shown
    return relu(f(x) - hidden) if variant == "minus" else relu(shown + f(x) - hidden)


def refine(maps: list[Array]) -> Array:
    """Poly-CAM's product of positive maps, the coarsest first."""
    result = relu(maps[0])
    for found in maps[1:]:
        found = relu(found)
        around = resize(resize(found, result.shape), found.shape)
        local = np.zeros_like(found)
        for p in np.ndindex(*found.shape):
            local[p] = found[p] / around[p] if around[p] > 0 else 0.0
        result = local * resize(result, found.shape)
    return result


def rise(x: Array, f: Score, masks: Array, p: float) -> Array:
    """RISE, arXiv 1806.07421 eq. 6."""
    picture = np.zeros(x.shape[1:])
    for m in masks:
        picture += f(x * m) * m
    return picture / (len(masks) * p)


def drise_similarity(
    box: Sequence[float], probabilities: Array, detections: Sequence[tuple[Array, Array, float]]
) -> float:
    """D-RISE, arXiv 2006.03204 eq. 2-5: the best of IoU * cosine * objectness.

    A detection is its box x0, y0, x1, y1, the probabilities of its classes, and its objectness.
    """
    best = 0.0
    for other, found, objectness in detections:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        shared = max(width, 0.0) * max(height, 0.0)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
        cosine = sum(p * q for p, q in zip(probabilities, found, strict=True)) / math.sqrt(
            sum(p * p for p in probabilities) * sum(q * q for q in found)
        )
        best = max(best, shared / (sum(areas) - shared) * cosine * objectness)
    return best


def rise_mask(cells: Array, start: Sequence[int], size: Size) -> Array:
    """Random cells enlarged by one cell more than the image, cut out at a place."""
    steps = [-(-length // n) for length, n in zip(size, cells.shape, strict=True)]
    enlarged = tuple((n + 1) * step for n, step in zip(cells.shape, steps, strict=True))
    whole = resize(cells, enlarged)
    return whole[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]


def occlusion(x: Array, f: Score, window: int, stride: int, fill: float) -> Array:
    """Mean drop over the windows that cover a pixel."""
    size = x.shape[1:]
    total, covered = np.zeros(size), np.zeros(size)
    starts = []
    for n in size:
        first = [0]
        while first[-1] + window < n:
            first.append(first[-1] + stride)
        starts.append(first)
    for corner in product(*starts):
        where = tuple(slice(c, c + window) for c in corner)
        changed = x.copy()
        changed[(slice(None), *where)] = fill
        total[where] += f(x) - f(changed)
        covered[where] += 1
    return total / covered


def ablation_weights(a: Array, y: Score, value: float = 0.0) -> Array:
    """`y(a) - y(a with channel k replaced)`."""
    drops = []
    for k in range(len(a)):
        changed = a.copy()
        changed[k] = value
        drops.append(y(a) - y(changed))
    return np.array(drops)


def reciprocam(a: Array, y: Score, gaussian: bool = False) -> Array:
    """Recipro-CAM, arXiv 2209.14074: everything but one position is zero."""
    picture = np.zeros(a.shape[1:])
    for p in np.ndindex(*picture.shape):
        kept = np.zeros_like(a)
        for q in np.ndindex(*picture.shape):
            steps = [abs(i - j) for i, j in zip(p, q, strict=True)]
            if gaussian and max(steps) <= 1:
                kept[(slice(None), *q)] = a[(slice(None), *q)] * math.prod(
                    0.5 if step == 0 else 0.25 for step in steps
                )
            elif p == q:
                kept[(slice(None), *q)] = a[(slice(None), *q)]
        picture[p] = y(kept)
    return picture


def shapley(players: int, value: Callable[[frozenset[int]], float]) -> Array:
    """Exact Shapley values: the mean gain over all orders."""
    known: dict[frozenset[int], float] = {}

    def worth(group: frozenset[int]) -> float:
        if group not in known:
            known[group] = value(group)
        return known[group]

    phi, orders = np.zeros(players), list(permutations(range(players)))
    for order in orders:
        group: frozenset[int] = frozenset()
        for player in order:
            phi[player] += worth(group | {player}) - worth(group)
            group = group | {player}
    return phi / len(orders)


def channel_shapley(a: Array, y: Score) -> Array:
    """Shapley value of each channel; absent means zero."""

    def value(group: frozenset[int]) -> float:
        kept = np.zeros_like(a)
        for k in group:
            kept[k] = a[k]
        return y(kept)

    return shapley(len(a), value)


def covered(x: Array, labels: Array, shown: Sequence[int], fill: str) -> Array:
    """The image with only the superpixels in `shown`."""
    result = np.zeros_like(x)
    background = blurred(x) if fill == "blur" else x * 0
    for c in range(len(x)):
        for p in np.ndindex(*labels.shape):
            if labels[p] in shown:
                result[(c, *p)] = x[(c, *p)]
            elif fill == "mean":
                result[(c, *p)] = x[c][labels == labels[p]].mean()
            else:
                result[(c, *p)] = background[(c, *p)]
    return result


def lime(z: Array, scores: Array, width: float, ridge: float) -> Array:
    """Weighted ridge regression with a free intercept, by its normal equations."""
    rows, count = z.shape
    weight = np.zeros(rows)
    for i in range(rows):
        cosine = z[i].sum() / (math.sqrt(z[i].sum()) * math.sqrt(count)) if z[i].any() else 0.0
        weight[i] = math.exp(-((1 - cosine) ** 2) / width**2)
    weight = weight / weight.mean()
    design = np.hstack([z, np.ones((rows, 1))])
    normal = design.T @ np.diag(weight) @ design
    normal += ridge * np.diag([1.0] * count + [0.0])
    return np.linalg.solve(normal, design.T @ (weight * scores))[:count]


def all_sets(count: int) -> list[tuple[int, ...]]:
    """Every subset of `count` things."""
    return [c for size in range(count + 1) for c in combinations(range(count), size)]
