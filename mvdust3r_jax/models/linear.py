"""Linear layers: float32 parameters, products in a type of choice, gradients that hold in it.

XLA's own gradients of such layers are slow on CPUs, and in bfloat16 those of the biases are wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()


@jax.custom_vjp
def token_product(
    x: Float[Array, "*batch D"], kernel: Float[Array, "D E"]
) -> Float[Array, "*batch E"]:
    """``x @ kernel`` in the type of ``x``, with a gradient of the kernel that is fast on CPUs.

    Products are float32 before they are rounded to that type: XLA uses the bfloat16 instructions
    that newer CPUs have only if it is asked for that.

    For the gradient XLA on CPUs sums over several token axes by copying the wider operand
    transposed first, which takes as long as the product itself; all tokens as one axis need no
    copy. Elsewhere axes may be spread over chips and are left as they are.
    """
    return _product(x, kernel)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32).astype(a.dtype)


def _token_product_forward(x: Array, kernel: Array):
    return _product(x, kernel), (x, kernel)


def _token_product_backward(kept: tuple[Array, Array], gradient: Array):
    x, kernel = kept

    def merged(x: Array, gradient: Array) -> Array:
        return _product(x.reshape(-1, x.shape[-1]).T, gradient.reshape(-1, gradient.shape[-1]))

    def separate(x: Array, gradient: Array) -> Array:
        tokens = list(range(x.ndim - 1))
        return jnp.tensordot(x, gradient, axes=(tokens, tokens))

    of_kernel = jax.lax.platform_dependent(x, gradient, cpu=merged, default=separate)
    return _product(gradient, kernel.T), of_kernel


token_product.defvjp(_token_product_forward, _token_product_backward)


@jax.custom_vjp
def plus_bias(x: Float[Array, "*batch D"], bias: Float[Array, " D"]) -> Float[Array, "*batch D"]:
    """``x + bias`` in their type, whose gradient of the bias is summed in float32.

    There are 100,000 tokens and more in a batch: a running sum in bfloat16 stands still once the
    next token's gradient is less than half its last digit.
    """
    return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _plus_bias_forward(x: Array, bias: Array):
    return plus_bias(x, bias), None


def _plus_bias_backward(_: None, gradient: Array):
    tokens = tuple(range(gradient.ndim - 1))
    return gradient, jnp.sum(gradient, tokens, dtype=jnp.float32).astype(gradient.dtype)


plus_bias.defvjp(_plus_bias_forward, _plus_bias_backward)


class Dense(nn.Module):
    """A linear layer with float32 parameters, computed in ``dtype``; ``product`` is ``x @ kernel``.

    Unlike `nn.Dense` it has gradients that hold in bfloat16 (`plus_bias`) and are fast on CPUs
    (`token_product`); names and first values of the parameters are the same.
    """

    width: int
    dtype: str
    kernel_init: Callable = xavier
    product: Callable[[Array, Array], Array] = token_product
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch E"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.width))
        x = self.product(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            x = plus_bias(x, self.param("bias", zeros, (self.width,)).astype(self.dtype))
        return x


def dense(width: int, dtype: str, name: str, init: Callable = xavier) -> Dense:
    """A linear layer with bias, products in ``dtype``."""
    return Dense(width, dtype, init, name=name)


def dense_in_parts(
    width: int, dtype: str, name: str, *, parts: int, use_bias: bool = True
) -> Dense:
    """A linear layer whose sums are taken in ``parts`` partial sums, added at the end.

    Rounding errors of one long running sum grow with its length; partial sums are more exact for
    the price of ``parts`` results in memory.
    """

    def product(x: Array, kernel: Array) -> Array:
        x = jnp.split(x, parts, axis=-1)
        kernel = jnp.split(kernel, parts, axis=0)
        # Not one batched product and a sum over its parts: XLA on CPUs takes ten times as long.
        sums = [jnp.dot(a, b) for a, b in zip(x, kernel, strict=True)]
        while len(sums) > 1:
            sums = [a + b for a, b in itertools.zip_longest(sums[::2], sums[1::2], fillvalue=0)]
        return sums[0]

    return Dense(width, dtype, product=product, use_bias=use_bias, name=name)
