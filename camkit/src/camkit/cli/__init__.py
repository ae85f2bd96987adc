"""The `camkit` command: one file per sub-command, `main` starts it."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 unexpected error, 2 wrong usage (option, image, layer, target, method), 3 finished
    with failed images, 4 model, weights or plugin not loadable, 130 interrupted.
    """
    import sys

    from camkit.cli.app import run

    return run(sys.argv[1:] if argv is None else list(argv))
