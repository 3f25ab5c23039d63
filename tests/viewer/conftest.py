"""Viewers, with and without a drop page, for all tests of this folder."""

from tests.viewer.drop_page import drop_page, shown

__all__ = ["drop_page", "shown"]
