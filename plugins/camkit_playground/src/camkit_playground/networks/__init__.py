"""The demo networks: a CNN, its Clever-Hans twin and a vision transformer, with shipped weights."""

from camkit_playground.networks.cnn import CNN
from camkit_playground.networks.store import NAMES, build, load
from camkit_playground.networks.vit import ViT

__all__ = ["CNN", "NAMES", "ViT", "build", "load"]
