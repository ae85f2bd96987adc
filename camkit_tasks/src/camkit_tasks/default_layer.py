"""Where to look in a transformer whose answer is read from a class token.

Behind the last block only the class token reaches the answer, so patch positions have no gradient
there; the first normalisation of that block is the last place where they have one.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_NAMES = ("norm1", "ln_1", "layernorm_before", "layer_norm1", "ln1")


def default_layer(model: nn.Module) -> str | None:
    """Name of the first LayerNorm in the last block of a plain vision transformer, or None.

    Networks with several stacks of blocks are left to camkit's own probing.
    """
    for name, module in model.named_modules():
        if _reads_class_token(module):
            found = list(_first_norms(module))
            return f"{name}.{found[0]}".lstrip(".") if len(found) == 1 else None
    return None


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
