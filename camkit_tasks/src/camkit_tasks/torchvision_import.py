"""The one place that imports torchvision, and says what is wrong if that fails."""

from __future__ import annotations

import importlib
from types import ModuleType

from camkit_core import ModelError
from camkit_tasks.words import one_line


def import_torchvision(submodule: str = "") -> ModuleType:
    """`torchvision`, or `torchvision.<submodule>`.

    Raises:
        ModelError: not installed, or built for another torch (its operators fail to register).
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"torchvision is not installed ({one_line(error)}), but this model or preprocessing "
            "needs it; install it with: pip install torchvision"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelError(
            f"torchvision is installed but broken ({one_line(error)}), usually because it was "
            "built for another torch version; reinstall torch and torchvision together"
        ) from error
