"""Weights, photographs and a cache are made once for all tests of this folder."""

from tests.cli.place import kept_programs, own_cache, place

__all__ = ["kept_programs", "own_cache", "place"]
