"""From a photo to a model's input, and the way back."""
