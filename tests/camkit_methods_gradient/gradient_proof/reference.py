"""Every method again: slow, from the equations, in plain NumPy and float64.

One image at a time. `A[k][p]` is the activation of channel k at position p (p a tuple of any
length), `G[k][p]` the gradient of the score with respect to it, `HA` the Hessian of the score
times A. Nothing here shares code with the package under test, or with torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Position = tuple[int, ...]


def positions(a: Array) -> list[Position]:
    """All positions of a stack of channels `[K, *S]`, in row-major order."""
    return list(np.ndindex(*a.shape[1:]))


def weighted_sum(w: Array, a: Array) -> Array:
    """`L[p] = sum_k w[k] A[k][p]`, the last step of most methods."""
    picture = np.zeros(a.shape[1:])
    for p in positions(a):
        for k in range(len(a)):
            picture[p] += w[k] * a[k][p]
    return picture


def per_channel(rule: Callable[[int], float], a: Array) -> Array:
    """One number per channel."""
    return np.array([rule(k) for k in range(len(a))])


def total(channel: Array) -> float:
    """`sum_p`, compensated."""
    return math.fsum(channel[p] for p in np.ndindex(*channel.shape))


def mean(channel: Array) -> float:
    """`1/Z sum_p`."""
    return total(channel) / channel.size


def relu(value: float) -> float:
    """`max(value, 0)`."""
    return value if value > 0 else 0.0


# --- weights from gradients ------------------------------------------------------------------


def cam(a: Array, w: Array) -> Array:
    """CAM, arXiv 1512.04150 eq. 2: `w` is the row of the linear head for the class."""
    return weighted_sum(w, a)


def gradcam(a: Array, g: Array) -> Array:
    """Grad-CAM, arXiv 1610.02391 eq. 1 and 2, before its ReLU."""
    return weighted_sum(per_channel(lambda k: mean(g[k]), a), a)


def gradcampp(a: Array, g: Array) -> Array:
    """Grad-CAM++, arXiv 1710.11063 eq. 19 for alpha and eq. 13 for the weights."""

    def weight(k: int) -> float:
        sum_a = total(a[k])
        terms = []
        for p in positions(a):
            square, cube = g[k][p] ** 2, g[k][p] ** 3
            denominator = 2 * square + sum_a * cube
            alpha = square / denominator if denominator != 0 else 0.0
            terms.append(alpha * relu(g[k][p]))
        return math.fsum(terms)

    return weighted_sum(per_channel(weight, a), a)


def gradcampp_with_epsilon(a: Array, g: Array) -> Array:
    """Grad-CAM++ as the package grad-cam computes it: 1e-6 added to the denominator."""

    def weight(k: int) -> float:
        sum_a = total(a[k])
        result = 0.0
        for p in positions(a):
            d = g[k][p]
            if d != 0:
                result += d**2 / (2 * d**2 + sum_a * d**3 + 1e-6) * relu(d)
        return result

    return weighted_sum(per_channel(weight, a), a)


def gradcampp_without_alpha(a: Array, g: Array) -> Array:
    """Grad-CAM++ as torchcam effectively computes it: `w = sum_p G^2 relu(G)`."""

    def weight(k: int) -> float:
        return math.fsum(g[k][p] ** 2 * relu(g[k][p]) for p in positions(a))

    return weighted_sum(per_channel(weight, a), a)


def xgradcam(a: Array, g: Array, epsilon: float = 0.0) -> Array:
    """XGrad-CAM, arXiv 2008.02312 eq. 8; a channel that sums to nothing gets no weight."""

    def weight(k: int) -> float:
        sum_a = total(a[k]) + epsilon
        if abs(sum_a) <= 1e-13 * total(abs(a[k])):
            return 0.0
        return math.fsum(g[k][p] * a[k][p] / sum_a for p in positions(a))

    return weighted_sum(per_channel(weight, a), a)


def shapleycam(a: Array, g: Array, ha: Array) -> Array:
    """Shapley-CAM, arXiv 2501.06261: `w_k = mean_p(G - 1/2 H A)`."""
    return weighted_sum(per_channel(lambda k: mean(g[k]) - mean(ha[k]) / 2, a), a)


# --- products at each position ---------------------------------------------------------------


def hirescam(a: Array, g: Array) -> Array:
    """HiResCAM, arXiv 2011.08891 eq. 3: `sum_k G A`."""
    picture = np.zeros(a.shape[1:])
    for p in positions(a):
        picture[p] = math.fsum(g[k][p] * a[k][p] for k in range(len(a)))
    return picture


def gradcamelementwise(a: Array, g: Array) -> Array:
    """Positive parts of the products: `sum_k relu(G A)`."""
    picture = np.zeros(a.shape[1:])
    for p in positions(a):
        picture[p] = math.fsum(relu(g[k][p] * a[k][p]) for k in range(len(a)))
    return picture


def layercam(a: Array, g: Array) -> Array:
    """LayerCAM, doi 10.1109/TIP.2021.3089943 eq. 4 to 6: `sum_k relu(G) A`."""
    picture = np.zeros(a.shape[1:])
    for p in positions(a):
        picture[p] = math.fsum(relu(g[k][p]) * a[k][p] for k in range(len(a)))
    return picture


def ssgradcam(a: Array, g: Array) -> Array:
    """SSGrad-CAM, doi 10.1109/ICIP46576.2022.9897350: Grad-CAM times |G| / max_p |G|."""
    picture = np.zeros(a.shape[1:])
    for k in range(len(a)):
        largest = max(abs(g[k][p]) for p in positions(a))
        if largest == 0:
            continue
        for p in positions(a):
            picture[p] += mean(g[k]) * abs(g[k][p]) / largest * a[k][p]
    return picture


# --- principal components --------------------------------------------------------------------


def rows(a: Array) -> Array:
    """Positions x channels."""
    return np.array([[a[k][p] for k in range(len(a))] for p in positions(a)])


def centered_columns(x: Array) -> Array:
    """`x` minus the mean of each column."""
    means = [math.fsum(x[:, j]) / len(x) for j in range(x.shape[1])]
    return np.array([[x[i, j] - means[j] for j in range(x.shape[1])] for i in range(len(x))])


def first_projection(x: Array) -> Array:
    """Projection of the rows on the eigenvector of `x^T x` with the largest eigenvalue."""
    gram = np.zeros((x.shape[1], x.shape[1]))
    for row in x:
        gram += np.outer(row, row)
    _, vectors = np.linalg.eigh(gram)
    return np.array([math.fsum(row * vectors[:, -1]) for row in x])


def follow(projection: Array, x: Array) -> Array:
    """The sign for which the projection agrees with the row sums of `x`."""
    sums = np.array([math.fsum(row) for row in x])
    return -projection if math.fsum(projection * sums) < 0 else projection


def eigencam(a: Array, centered: bool = False) -> Array:
    """Eigen-CAM, arXiv 2008.00299 eq. 4 and 5: A projected on its first right singular vector.

    Of positive sum; the centered one has no sum and follows the row sums.
    """
    x = rows(a)
    if centered:
        return follow(first_projection(centered_columns(x)), x).reshape(a.shape[1:])
    projection = first_projection(x)
    return (-projection if math.fsum(projection) < 0 else projection).reshape(a.shape[1:])


def eigengradcam(a: Array, g: Array, centered: bool = False) -> Array:
    """The same projection of `G A`, with the sign of its row sums."""
    x = rows(g * a)
    projection = first_projection(centered_columns(x) if centered else x)
    return follow(projection, x).reshape(a.shape[1:])


def segeigencam(a: Array, g: Array) -> Array:
    """Seg-Eigen-CAM, doi 10.3390/app15137562 eq. 10 to 13."""
    projection = first_projection(centered_columns(rows(abs(g) * a)))
    if abs(projection.min()) > abs(projection.max()):
        projection = -projection
    return projection.reshape(a.shape[1:])


def kernel_value(kernel: str, x: Array, y: Array, gamma: float) -> float:
    """The kernels of KPCA-CAM, with coef0 = 1 and degree 3."""
    dot = math.fsum(x * y)
    if kernel == "sigmoid":
        return math.tanh(gamma * dot + 1)
    if kernel == "poly":
        return (gamma * dot + 1) ** 3
    if kernel == "rbf":
        return math.exp(-gamma * math.fsum((x - y) ** 2))
    if kernel == "linear":
        return dot
    norms = math.sqrt(math.fsum(x * x)) * math.sqrt(math.fsum(y * y))
    return dot / norms if norms else 0.0


def kpcacam(
    a: Array, kernel: str = "sigmoid", gamma: float | None = None, largest_positive: bool = False
) -> Array:
    """KPCA-CAM, arXiv 2410.00267: first kernel principal component of the centered positions.

    Kernel matrix K, doubly centered, top eigenpair (l, v): the map is `sqrt(l) v`.
    """
    x = centered_columns(rows(a))
    gamma = 1 / x.shape[1] if gamma is None else gamma
    k = np.array([[kernel_value(kernel, xi, xj, gamma) for xj in x] for xi in x])
    n = len(k)
    middle = np.eye(n) - np.ones((n, n)) / n
    values, vectors = np.linalg.eigh(middle @ k @ middle)
    projection = math.sqrt(relu(values[-1])) * vectors[:, -1]
    if not largest_positive:
        return follow(projection, x).reshape(a.shape[1:])
    peak = projection[int(np.argmax(abs(projection)))]
    return (projection if peak > 0 else -projection).reshape(a.shape[1:])


# --- no gradients ----------------------------------------------------------------------------


def strong(channel: Array, k: float) -> Array:
    """1 where the channel exceeds its mean by more than k population deviations."""
    average = mean(channel)
    deviation = math.sqrt(mean((channel - average) ** 2))
    return np.array(channel > average + k * deviation, dtype=np.float64)


def fem(a: Array, k: float = 2.0) -> Array:
    """FEM, hal-02963298, as grad-cam computes it: each channel weighted by its strong share."""
    return weighted_sum(per_channel(lambda c: mean(strong(a[c], k)), a), a)


def fem_masks(a: Array, k: float = 2.0) -> Array:
    """FEM as Xplique computes it: the strong positions, weighted by the channel's mean."""
    masks = np.array([strong(channel, k) for channel in a])
    return weighted_sum(per_channel(lambda c: mean(a[c]), a), masks)


def lafam(a: Array) -> Array:
    """LaFAM, arXiv 2407.06059: the mean over channels."""
    return weighted_sum(np.full(len(a), 1 / len(a)), a)


def dummycam(a: Array) -> Array:
    """The mean over channels minus its median over positions."""
    picture = lafam(a)
    ordered = sorted(picture[p] for p in np.ndindex(*picture.shape))
    n = len(ordered)
    return picture - (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def fakecam(a: Array) -> Array:
    """Fake-CAM, arXiv 2104.10252: everything but the first cell."""
    picture = np.ones(a.shape[1:])
    picture[(0,) * picture.ndim] = 0.0
    return picture


# --- of the image alone ----------------------------------------------------------------------


def gaussian(image: Array) -> Array:
    """A Gaussian around the middle of the image, sigma a quarter of each side."""
    sides = image.shape[1:]
    picture = np.zeros(sides)
    for p in np.ndindex(*sides):
        exponents = [
            ((i - (side - 1) / 2) / (side / 4)) ** 2 for i, side in zip(p, sides, strict=True)
        ]
        picture[p] = math.exp(-math.fsum(exponents) / 2)
    return picture


def sobel(image: Array) -> Array:
    """Mean over axes of |Sobel derivative| of the gray image, edges repeated."""
    gray = np.array(sum(image[1:], start=image[0]) / len(image))
    picture = np.zeros(gray.shape)
    for p in np.ndindex(*gray.shape):
        responses = [abs(sobel_response(gray, p, axis)) for axis in range(gray.ndim)]
        picture[p] = math.fsum(responses) / gray.ndim
    return picture


def sobel_response(gray: Array, p: Position, axis: int) -> float:
    """One derivative: [-1, 0, 1] along the axis, [1, 2, 1] along every other."""
    response = 0.0
    for offset in product((-1, 0, 1), repeat=gray.ndim):
        factor = 1.0
        for d, o in enumerate(offset):
            factor *= o if d == axis else 2 - abs(o)
        q = tuple(
            min(max(i + o, 0), side - 1) for i, o, side in zip(p, offset, gray.shape, strict=True)
        )
        response += factor * gray[q]
    return response
