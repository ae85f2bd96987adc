"""Layer outputs as pictures: tokens, and which layout a layer has."""
