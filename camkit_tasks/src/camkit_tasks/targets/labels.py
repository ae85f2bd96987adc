"""How targets describe themselves: one label per image, joined where they differ."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from camkit_core import TargetInfo


def class_label(index: int) -> str:
    """`class 3`, for which camkit shows the name where it is known."""
    return f"class {index}"


def described(kind: str, labels: Sequence[str], classes: Tensor | None = None) -> TargetInfo:
    """The description of a target with a label per image."""
    joined = ", ".join(dict.fromkeys(labels)) or kind
    return TargetInfo(kind=kind, label=joined, labels=tuple(labels), classes=classes)


def of_classes(kind: str, template: str, *classes: Tensor) -> TargetInfo:
    """The description of a target of one or more classes per image; the first is *the* class.

    Args:
        kind: of target.
        template: label with `{}` for every class.
        classes: indices `[N]`, one tensor for every `{}`.
    """
    rows = zip(*(one.tolist() for one in classes), strict=True)
    return described(kind, [template.format(*map(class_label, row)) for row in rows], classes[0])
