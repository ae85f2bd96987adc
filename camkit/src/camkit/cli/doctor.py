"""`camkit doctor`: everything a bug report needs."""

from __future__ import annotations

import os
import platform
from typing import Any

from camkit.cli.errors import OK
from camkit.cli.terminal import Talk
from camkit.run.versions import camkit_versions, devices, library_versions
from camkit_core import default_registry

_TALK = Talk()
_VARIABLES = (
    "CAMKIT_PLUGINS_ALLOW",
    "CAMKIT_PLUGINS_BLOCK",
    "CAMKIT_STRICT_PLUGINS",
    "CAMKIT_DEBUG",
)


def doctor(*, talk: Talk = _TALK) -> int:
    """Show versions, devices, plugin problems and settings; paste it into bug reports."""
    talk = talk.listing()
    registry = default_registry()
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": library_versions(),
        "camkit": camkit_versions(registry),
        "devices": devices(),
        "environment": {name: os.environ.get(name, "not set") for name in _VARIABLES},
        "problems": [*map(str, registry.problems), *registry.clashes],
    }
    talk.emit(facts)
    for title, fact in facts.items():
        _say(talk, title, fact)
    if not registry.plugins:
        talk.warn('no plugin is installed; pip install "camkit[all]" brings the first-party ones')
    return OK


def _say(talk: Talk, title: str, fact: Any) -> None:
    if isinstance(fact, dict):
        talk.say(title, "bold")
        for name, value in fact.items():
            talk.say(f"  {name:<30}{value}")
    elif isinstance(fact, list):
        talk.say(title, "bold")
        for line in fact or ["none"]:
            talk.say(f"  {line}")
    else:
        talk.say(f"{title:<32}{fact}")
