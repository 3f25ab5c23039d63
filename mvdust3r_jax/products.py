"""Products of matrices in full float32, whatever a backend takes by default.

By default a TPU rounds the factors of float32 products to bfloat16 (8 bits), and a GPU may round
them to TF32 (11 bits). Networks bear that; geometry does not: at 5 m it is a centimeter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax

F = TypeVar("F", bound=Callable)


def exact_products(function: F) -> F:
    """The function, all of whose products keep their factors as they are.

    The precision is settled where a product is traced, and its derivatives take over that of the
    product. So this stands below ``jax.jit``, and a rule of derivatives needs its own.
    """

    @functools.wraps(function)
    def exact(*args, **kwargs):
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return exact
