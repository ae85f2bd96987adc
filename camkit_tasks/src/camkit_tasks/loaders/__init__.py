"""Models from a specification: torchvision's by name, the user's own by file."""
