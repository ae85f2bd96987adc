"""One run of `camkit explain` or `camkit compare`: from options to an output folder."""
