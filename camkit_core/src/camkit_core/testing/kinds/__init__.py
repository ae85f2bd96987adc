"""The other kinds of objects: targets, reshapes, metrics, controls."""
