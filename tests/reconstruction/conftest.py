"""Known geometry in the network's place, and a network of random weights, for all tests here."""

from tests.reconstruction.perfect_network import perfect
from tests.reconstruction.random_model import model

__all__ = ["model", "perfect"]
