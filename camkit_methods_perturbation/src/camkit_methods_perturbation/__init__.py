"""Methods that run the model again: on masked images, or from a layer on with changed outputs."""

__version__ = "0.1.0"
