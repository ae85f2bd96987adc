"""A class activation method, a target and a reshape for camkit."""

__version__ = "0.1.0"
