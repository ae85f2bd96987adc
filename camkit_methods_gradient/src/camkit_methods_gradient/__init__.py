"""Methods that read one capture: activations and gradients of one forward and backward pass."""

__version__ = "0.1.0"
