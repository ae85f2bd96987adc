"""What to explain of a classifier, beyond the plain logit."""
