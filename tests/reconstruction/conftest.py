"""Known geometry in the network's place, for all tests of this folder."""

from tests.reconstruction.perfect_network import perfect

__all__ = ["perfect"]
