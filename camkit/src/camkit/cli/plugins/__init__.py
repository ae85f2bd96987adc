"""`camkit plugins`: who brings what, whether it keeps the contract, and how to start another."""

from __future__ import annotations

from cyclopts import App

from camkit.cli.plugins.checking import check
from camkit.cli.plugins.creating import new
from camkit.cli.plugins.listing import list_or_usage, list_plugins

plugins = App(
    name="plugins",
    help_format="plaintext",
    help_epilogue="""Examples:
  camkit plugins
  camkit plugins check camkit-methods-gradient
  camkit plugins new sharpcam""",
)
"""Sub-commands; without one, the list."""

plugins.default(list_or_usage)
plugins.command(list_plugins, name="list")
plugins.command(check, name="check")
plugins.command(new, name="new")
