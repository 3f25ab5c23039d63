"""Golden numbers by programs as users compile them: other tests' are optimized less."""

import pytest

from tests.models import parity_test
from tests.splat import golden_test

pytestmark = pytest.mark.published


def test_a_network():
    """Of every kind of layer, within the same limits."""
    parity_test.test_parity(parity_test.AS_USERS)


@pytest.mark.parametrize("name", golden_test.AS_USERS)
def test_a_scene(name):
    """Image and gradients, within the same limits."""
    golden_test.test_golden_scene(name)
