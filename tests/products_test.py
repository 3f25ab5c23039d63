"""Products of float32 stay exact where a backend's default is less, and so do their gradients.

The CPU that tests run on has no such default: looked at is what the programs ask for.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from mvdust3r_jax.models.heads import LinearPointHead
from tests.signatures import NAMED, OTHERS, ROTATION, SMOOTH, floats


def careless_products(function, *given, **named):
    """Lines of a program with products that take the user's default, and all such lines."""
    with jax.default_matmul_precision("bfloat16"):
        text = jax.jit(function).lower(*given, **named).as_text()
    kinds = ("stablehlo.dot_general", "stablehlo.convolution")
    products = [line for line in text.splitlines() if any(kind in line for kind in kinds)]
    return [line for line in products if line.count("HIGHEST") < 2], products


@pytest.mark.parametrize("name", [*SMOOTH, *OTHERS])
def test_products_are_exact_whatever_the_default(name):
    """A user's default of bfloat16 reaches none of them."""
    function, *given = {**SMOOTH, **OTHERS}[name]
    careless, products = careless_products(function, *given, **NAMED.get(name, {}))
    assert products and not careless


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_exact_whatever_the_default(name):
    """Also of functions that are jitted before they are differentiated."""
    function, *given = SMOOTH[name]

    def total(*arguments):
        found = jax.tree.leaves(jax.jit(function)(*arguments))
        return sum(jnp.sum(x) for x in found if jnp.issubdtype(x.dtype, jnp.floating))

    # Not of masks.
    arguments = [i for i, x in enumerate(given) if jax.tree.leaves(x)[0].dtype != jnp.bool_]
    careless, products = careless_products(jax.grad(total, argnums=arguments), *given)
    assert products and not careless


def test_points_are_exact_whatever_the_default():
    """Of all products of the networks the last one of the points."""
    head, tokens = LinearPointHead(patch=2), floats(1, 4, 8)
    params = jax.eval_shape(partial(head.init, grid=(2, 2)), jax.random.key(0), tokens)
    careless, products = careless_products(partial(head.apply, grid=(2, 2)), params, tokens)
    assert products and not careless


def test_a_product_without_care_is_found():
    """What the tests above look for is there to be found."""
    careless, products = careless_products(lambda a: a @ a, ROTATION)
    assert careless == products and len(products) == 1
