"""What a method asks of the engine. Torch-free: listings show it."""

from __future__ import annotations

from enum import Flag, StrEnum, auto


class Need(Flag):
    """Capabilities a method declares; `Capture` refuses everything else."""

    NONE = 0
    ACTIVATIONS = auto()  # outputs of the captured layer
    GRADIENTS = auto()  # of the score with respect to those outputs
    SECOND_ORDER = auto()  # Hessian-vector products at the layer
    INPUT_GRADIENTS = auto()  # of the score with respect to the image
    HEAD = auto()  # weights of the one linear layer behind global average pooling
    SCORES = auto()  # scores of perturbed inputs
    TAIL = auto()  # scores of changed activations
    ATTENTION = auto()  # softmax attention of each block; with GRADIENTS, those of the score too
    GRAPH = auto()  # all layers and biases
    RECAPTURE = auto()  # a capture of another input, same bound target
    LAYERS = auto()  # one call with all layers instead of one call per layer
    FIT = auto()  # something learned from a data set

    def words(self) -> tuple[str, ...]:
        """Names of the single capabilities, in order of declaration."""
        return tuple(str(need.name).lower() for need in Need if need in self)


AT_A_LAYER = (
    Need.ACTIVATIONS | Need.GRADIENTS | Need.SECOND_ORDER | Need.HEAD | Need.TAIL | Need.LAYERS
)
"""Needs that make sense at a layer only; a method with none of them explains in input space."""


def at_a_layer(needs: Need) -> bool:
    """Whether a method with these needs is called once per layer.

    Beside ATTENTION, GRADIENTS alone means those at the attention of all blocks, which is no layer.
    """
    here = needs & AT_A_LAYER
    return bool(here & ~Need.GRADIENTS if Need.ATTENTION in needs else here)


RUNS_AGAIN = Need.SCORES | Need.TAIL
"""Needs that take many further runs of the model, for which the first one's graph is dropped."""

READS_SCORE = (
    Need.GRADIENTS | Need.SECOND_ORDER | Need.INPUT_GRADIENTS | Need.HEAD | Need.SCORES | Need.TAIL
) | (Need.GRAPH | Need.RECAPTURE)
"""Needs that depend on what is scored; a method with none of them is the same for every target."""


DIFFERENTIABLE = Need.ACTIVATIONS | Need.GRADIENTS | Need.INPUT_GRADIENTS | Need.LAYERS
"""Needs whose values can carry the graph on to the model's parameters."""


class Claim(StrEnum):
    """Relations a method promises to satisfy; the conformance checks read them."""

    CHANNEL_PERMUTATION = "channel_permutation"  # reordering channels keeps the map
    CHANNEL_RESCALING = "channel_rescaling"  # A_k * s, w_k / s keeps the map
    SCORE_SCALING = "score_scaling"  # score * s (s > 0) keeps the normalised map
    SCORE_SHIFT = "score_shift"  # score + c keeps the map
    GAP_IS_CAM = "gap_is_cam"  # equals CAM / positions behind global average pooling + linear
    CONSERVATION = "conservation"  # the raw map sums to sum(G * A)
    LOCALITY = "locality"  # zero where the score does not look
    LINEAR_IN_TARGET = "linear_in_target"  # raw map of a sum of scores = sum of raw maps
    DETERMINISTIC = "deterministic"  # does not depend on the seed
