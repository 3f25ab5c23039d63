"""The stored data set of boxes is made once for all tests of this folder."""

from tests.data.stored.boxes_set import folder

__all__ = ["folder"]
