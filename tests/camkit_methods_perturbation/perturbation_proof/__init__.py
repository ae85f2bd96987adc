"""Helpers of the tests of the perturbation family."""
