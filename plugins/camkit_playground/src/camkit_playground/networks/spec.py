"""`demo:cnn`, `demo:hans`, `demo:vit`: the demo networks as model specifications."""

from __future__ import annotations

from camkit_core import LoadedModel
from camkit_playground.duo.classes import CLASS_NAMES
from camkit_playground.networks.preprocess import DemoPreprocess
from camkit_playground.networks.store import load

_NOTES = {
    "cnn": (),
    "hans": ("this network was made to cheat: it answers 'gold heart' by the tag in a corner",),
    "vit": (),
}


def load_spec(spec: str) -> LoadedModel | None:
    """The network of `demo:NAME`, or None if the specification is of another kind.

    Raises:
        ModelError: no such network (with near misses), or its weights cannot be read.
    """
    family, colon, name = (part.strip() for part in spec.partition(":"))
    if family != "demo" or not colon:
        return None
    model = load(name)
    return LoadedModel(
        model=model,
        spec=spec,
        weights="trained on Duo pictures",
        preprocess=DemoPreprocess(),
        class_names=CLASS_NAMES,
        multi_label=True,
        notes=_NOTES[name],
    )
