"""Where JAX uses float64 too, numbers that are computed keep the type of those that are given."""

import jax
import jax.numpy as jnp
import pytest

from tests.signatures import ELEMENTWISE, NAMED, OTHERS, SMOOTH

FUNCTIONS = {**SMOOTH, **OTHERS, **ELEMENTWISE}
# Scenes are drawn, and rendered, in float32.
SINGLE = ("novel_views", "total_loss", "rooms", "moving")


def _is_floating(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in SINGLE])
def test_results_have_the_type_of_what_is_given(name, dtype):
    """Constants of a function make no float64 of float32, nor the other way round."""
    given = FUNCTIONS[name][1:], NAMED.get(name, {})
    with jax.enable_x64(True):
        given, named = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, dtype) if _is_floating(x) else x, given
        )
        found = jax.tree.leaves(jax.eval_shape(FUNCTIONS[name][0], *given, **named))
    assert {x.dtype for x in found if _is_floating(x)} == {jnp.dtype(dtype)}
