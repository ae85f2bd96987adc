"""Where to look in families whose usual layer probing alone would not find.

In a transformer whose answer is read from a class token, only that token reaches the answer behind
the last block; the first normalization of that block is the last place where patches have a
gradient. In torchvision's segmentation networks people look at the end of the backbone, before the
head spreads what it saw over the mask. In DETR the encoder is the last place with a picture: the
decoder's tokens are queries, even where their number looks like a grid.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_NAMES = ("norm1", "ln_1", "layernorm_before", "layer_norm1", "ln1")


def default_layer(model: nn.Module) -> str | None:
    """Name of the layer to explain in a known family, or None.

    Networks with several stacks of blocks are left to camkit's own probing.
    """
    for name, module in model.named_modules():
        if _segments(module):
            *_, last = module.get_submodule("backbone")._modules
            return f"{name}.backbone.{last}".lstrip(".")
        if _queries(module):
            return f"{name}.encoder".lstrip(".")
        if _reads_class_token(module):
            found = list(_first_norms(module))
            return f"{name}.{found[0]}".lstrip(".") if len(found) == 1 else None
    return None


def _segments(module: nn.Module) -> bool:
    """DeepLabV3, FCN and LR-ASPP of torchvision."""
    names = {base.__name__ for base in type(module).__mro__}
    return bool(names & {"_SimpleSegmentationModel", "LRASPP"}) and hasattr(module, "backbone")


def _queries(module: nn.Module) -> bool:
    """DETR of transformers and its descendants: learned queries ask what an encoder saw."""
    parts = ("encoder", "decoder", "query_position_embeddings")
    return all(isinstance(getattr(module, part, None), nn.Module) for part in parts)


def _reads_class_token(module: nn.Module) -> bool:
    tokens = (getattr(module, name, None) for name in ("class_token", "cls_token"))
    has_token = any(isinstance(token, nn.Parameter) for token in tokens)
    return has_token and getattr(module, "global_pool", "token") == "token"


def _first_norms(transformer: nn.Module) -> Iterator[str]:
    """First norm of the last block, for every stack of alike blocks."""
    for name, stack in transformer.named_modules():
        blocks = list(stack.named_children())
        if not isinstance(stack, nn.Sequential | nn.ModuleList) or not blocks:
            continue
        if len({type(block) for _, block in blocks}) > 1:
            continue
        last, block = blocks[-1]
        for child, norm in block.named_children():
            if isinstance(norm, nn.LayerNorm) and child in _NAMES:
                yield f"{name}.{last}.{child}"
                break
