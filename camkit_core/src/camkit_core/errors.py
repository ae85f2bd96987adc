"""Every error camkit raises on purpose.

Each message says what happened, where (layer, argument, value), why it matters and what to do.
All of them derive from `CamkitError`, and from the builtin a caller would expect.
"""

from __future__ import annotations


class CamkitError(Exception):
    """Base of all deliberate errors."""


class InputError(CamkitError, ValueError):
    """The batch handed to the model is not usable."""


class TargetError(CamkitError, ValueError):
    """What should be explained is unclear, out of range or not connected."""


class LayerError(CamkitError, ValueError):
    """A layer was not found, or named ambiguously."""


class LayoutError(CamkitError, ValueError):
    """A layer's output cannot be read as a picture without help."""


class OptionError(CamkitError, ValueError):
    """A method's option, or one of the engine's words, has a wrong name or value."""


class CaptureError(CamkitError, RuntimeError):
    """The model ran, but not in a way that shows what was asked for."""


class NonFiniteError(CamkitError, ArithmeticError):
    """NaN or infinity where an explanation would be computed from it."""


class CapabilityError(CamkitError, NotImplementedError):
    """This model, method or version cannot do what was asked."""


class BudgetError(CamkitError, RuntimeError):
    """The work would exceed the stated budget."""


class ModelError(CamkitError, RuntimeError):
    """A model specification could not be turned into a model."""


class UnsafeFileError(CamkitError, ValueError):
    """A file that camkit refuses to read or write."""


class PluginError(CamkitError):
    """A plugin is missing, broken or ambiguous."""


class UnknownNameError(PluginError, LookupError):
    """No installed plugin offers that name."""


class AmbiguousNameError(PluginError, LookupError):
    """Several distributions offer that name."""
