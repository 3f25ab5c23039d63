"""One exact scene for all tests of this folder."""

import pytest

from tests.export_scene import box_room


@pytest.fixture(scope="session")
def scene():
    """Three exact views of the box room; tests change copies of it only."""
    return box_room(3)
