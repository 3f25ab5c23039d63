"""Golden numbers by programs as users compile them: other tests' are optimized less."""

import pytest

from tests.models import parity_test
from tests.splat import golden_test

pytestmark = pytest.mark.published


def test_a_network():
    """Of every kind of layer, within the same limits."""
    parity_test.test_parity("mvdp_3views_2refs_sh1")


@pytest.mark.parametrize("name", ["s3_sh2", "s4_hard_dense_tile"])
def test_a_scene(name):
    """Image and gradients, within the same limits."""
    (path,) = [path for path in golden_test.SCENES if path.stem == name]
    golden_test.test_golden_scene(path)
