"""ImageNet's classes: names and WordNet ids, from the packages that ship them.

No table is kept here: timm's is read where timm is installed, torchvision's weights bring names.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

CLASSES = 1000
"""Classes of the ImageNet challenge, in the order of their WordNet ids everywhere."""

_ID = re.compile(r"n\d{8}")


def ids_of(class_names: Sequence[str]) -> tuple[str, ...]:
    """WordNet ids that go with the names of the ImageNet challenge; empty for other classes.

    Names are recognised by their number and by the first and the last of them.
    """
    if len(class_names) != CLASSES:
        return ()
    ends = class_names[0].lower(), class_names[-1].lower()
    ours = ends[0].startswith("tench") and re.search(r"toilet (tissue|paper)", ends[1])
    return wordnet_ids() if ours else ()


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The 1000 ids (`n01440764`, ...) in class order; empty where timm is not installed."""
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        return ()
    # The file is read as it lies, because importing timm takes seconds.
    file = Path(found.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    ids = tuple(file.read_text().split()) if file.is_file() else described(CLASSES)[1]
    return ids if len(ids) == CLASSES and all(map(_ID.fullmatch, ids)) else ()


def described(classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names with synonyms, and ids, of the ImageNet subset with that many classes.

    Empty where timm is not installed or knows no such subset.
    """
    if importlib.util.find_spec("timm") is None:
        return (), ()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return (), ()
    info = ImageNetInfo(subset)
    return tuple(info.label_descriptions()), tuple(info.label_names())
