"""Puts the command line together: camkit's own sub-commands and those of plugins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cyclopts import App
from cyclopts.exceptions import UnknownCommandError

from camkit import __version__
from camkit.cli.errors import Usage, report
from camkit_core import default_registry, near

if TYPE_CHECKING:
    from camkit_core import Entry

OWN = {
    "explain": "Show what a model looked at in photos: one overlay per method and target.",
    "compare": "The same, as one side-by-side picture per photo.",
    "layers": "List a model's layers and which of them can be explained.",
    "methods": "List the explanation methods, or show one method's card.",
    "targets": "List what can be explained, and how to say it.",
    "plugins": "List the installed plugins and their problems; check one, or start a new one.",
    "cite": "Print BibTeX entries for methods.",
    "doctor": "Versions, devices and plugin problems, for bug reports.",
}
"""Name and one-line help of every own command; its code is `camkit.cli.<name>:<name>`."""

EXAMPLES = {
    "explain": """Examples:
  camkit explain duo:7 --model demo:cnn -t "green cross"
  camkit explain cat.jpg --model torchvision:resnet50@weights.pth
  camkit explain *.jpg --model net.py:build -m gradcam,layercam -t top3 -o out
  camkit explain cat.jpg --model torchvision:vit_b_16@weights.pth -t tabby""",
    "compare": """Example:
  camkit compare cat.jpg --model net.py:build -m gradcam,eigencam -t cat -t dog""",
    "layers": """Example:
  camkit layers --model torchvision:resnet50@none""",
    "methods": """Examples:
  camkit methods
  camkit methods gradcampp""",
    "cite": """Example:
  camkit cite gradcam hirescam > references.bib""",
}

_HELP = """Explain what a vision model looked at.

Start with: camkit demo
Then: camkit explain photo.jpg --model torchvision:resnet50@weights.pth
"""


def run(argv: Sequence[str]) -> int:
    """Parse `argv`, run one command, and turn every exception into an exit code."""
    debug = 0
    try:
        command, bound = _parse(argv)
        debug = _verbosity(bound)
        return int(command(*bound.args, **bound.kwargs) or 0)
    # The outermost frame: whatever happened becomes one line and an exit code.
    except BaseException as error:
        return report(error, debug)


def build() -> App:
    """The application, with every command loaded on use only."""
    app = App(
        name="camkit",
        help=_HELP,
        version=__version__,
        help_format="plaintext",
        version_flags="--version",
    )
    for place, (name, summary) in enumerate(OWN.items()):
        own = {"help_epilogue": EXAMPLES[name]} if name in EXAMPLES else {}
        app.command(f"camkit.cli.{name}:{name}", name=name, help=summary, sort_key=place, **own)
    for name, entry in _plugin_commands().items():
        app.command(entry.ref, name=name, help=entry.summary, group="Commands of plugins")
    return app


def _plugin_commands() -> dict[str, Entry]:
    """Commands of other distributions; an own or a doubly offered name is never replaced."""
    registry = default_registry()
    offered = {entry.name: entry for entry in registry.entries("command")}
    return {
        name.replace("_", "-"): entry
        for name, entry in offered.items()
        if registry.has("command", name) and name not in OWN
    }


def _parse(argv: Sequence[str]) -> tuple[Callable[..., Any], inspect.BoundArguments]:
    if argv and not argv[0].startswith("-"):
        _check_command(argv[0])
    try:
        command, bound, ignored = build().parse_args(argv, exit_on_error=False, print_error=False)
    except UnknownCommandError as error:
        # Its own text would import every command to look for near misses.
        raise Usage(f"{argv[0]!r} is no option of camkit; see camkit --help") from error
    if "argv" in ignored:
        bound.arguments["argv"] = tuple(argv)
    return command, bound


def _check_command(name: str) -> None:
    """Refuse unknown, ambiguous and broken commands before the parser sees them."""
    if name in OWN:
        return
    registry = default_registry()
    known = [*OWN, *_plugin_commands()]
    hint = near(name, known)
    if hint and name not in known:
        raise Usage(f"no command is called {name!r}{hint}")
    registry.resolve("command", name.replace("-", "_"))


def _verbosity(bound: inspect.BoundArguments) -> int:
    levels = [getattr(value, "verbose", 0) for value in bound.arguments.values()]
    return max([int(level) for level in levels if isinstance(level, int)], default=0)
