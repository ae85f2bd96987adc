"""Independent proof of the gradient family: slow references, small networks, strict checks."""
