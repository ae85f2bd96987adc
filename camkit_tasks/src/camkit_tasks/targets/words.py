"""Targets from what people type: `margin`, `probability:281`."""

from __future__ import annotations

from camkit_core import Target, TargetError
from camkit_tasks.targets.scores import LogProbability, Margin, Probability, Rest

_BY_NAME: dict[str, type[Probability | LogProbability | Margin | Rest]] = {
    "probability": Probability,
    "log_probability": LogProbability,
    "margin": Margin,
    "rest": Rest,
}


def target_from_words(request: str) -> Target | None:
    """The target a request names, for the top class or for the class index after the colon.

    Raises:
        TargetError: what follows the colon is not a class index.
    """
    name, colon, written = (part.strip() for part in request.partition(":"))
    kind = _BY_NAME.get(name)
    if kind is None:
        return None
    if not colon:
        return kind()
    index = written.removeprefix("class_index=")
    if not index.isdecimal():
        raise TargetError(
            f"target={request!r}: after the colon comes a class index, e.g. {name}:281; "
            f"without one, {name} is that of the predicted class"
        )
    return kind(int(index))
