"""From an exception to one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

from cyclopts.exceptions import CycloptsError

from camkit.cli.terminal import print_error
from camkit_core import (
    AmbiguousNameError,
    BudgetError,
    CamkitError,
    CapabilityError,
    CaptureError,
    InputError,
    LayerError,
    LayoutError,
    ModelError,
    NonFiniteError,
    OptionError,
    PluginError,
    TargetError,
    UnknownNameError,
    UnsafeFileError,
)

OK = 0
UNEXPECTED = 1
USAGE = 2
FAILED_IMAGES = 3
NOT_LOADABLE = 4
INTERRUPTED = 130


class Usage(CamkitError, ValueError):
    """The command line asks for something that cannot be done."""


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (KeyboardInterrupt, INTERRUPTED),
    (CycloptsError, USAGE),
    (Usage, USAGE),
    (InputError, USAGE),
    (TargetError, USAGE),
    (LayerError, USAGE),
    (LayoutError, USAGE),
    (OptionError, USAGE),
    (CaptureError, USAGE),
    (NonFiniteError, USAGE),
    (CapabilityError, USAGE),
    (BudgetError, USAGE),
    (UnsafeFileError, USAGE),
    (UnknownNameError, USAGE),
    (AmbiguousNameError, USAGE),
    (ModelError, NOT_LOADABLE),
    (PluginError, NOT_LOADABLE),
)


def exit_code(error: BaseException) -> int:
    """Exit code of an exception; the first matching class decides."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), UNEXPECTED)


def message(error: BaseException) -> str:
    """One line: what happened and what to do."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, CycloptsError):
        error.verbose = False
        return f"{error or type(error).__name__} See {_help(error)}"
    if isinstance(error, CamkitError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; CAMKIT_DEBUG=1 shows where"


def _help(error: CycloptsError) -> str:
    return " ".join(["camkit", *(error.command_chain or ()), "--help"])


def report(error: BaseException, verbosity: int = 0) -> int:
    """Print the line (and a traceback if asked for) on stderr and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else UNEXPECTED
    if isinstance(error, BrokenPipeError):
        # The reader of a pipe went away; Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    if verbosity >= 2 or os.environ.get("CAMKIT_DEBUG") == "1":
        traceback.print_exception(error)
    print_error(message(error))
    return exit_code(error)
