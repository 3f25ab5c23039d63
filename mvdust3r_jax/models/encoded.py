"""A network in parts: encoder, decoder and heads, each as often as is wanted.

What is known already is given to the network in place of the part that would compute it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.decoder import Decoder
from mvdust3r_jax.models.encoder import Encoder, encoder_of
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.types import Prediction


def encode_views(
    variables: dict, images: Float[Array, "*batch H W 3"], config: ModelConfig
) -> Float[Array, "*batch N D"]:
    """The encoder alone."""
    return encoder_of(config).apply({"params": variables["params"]["encoder"]}, images)


def predict_encoded(
    variables: dict,
    images: Float[Array, "B V H W 3"],
    tokens: Float[Array, "B V N D"],
    config: ModelConfig,
    *,
    num_refs: int = 1,
    all_paths: bool = False,
) -> Prediction:
    """The network's ``Prediction`` with the encoder's answer given instead of computed."""

    def known(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Encoder):
            return tokens
        return method(*args, **kwargs)

    with nn.intercept_methods(known):
        return MVDust3r(config).apply(variables, images, num_refs=num_refs, all_paths=all_paths)


def predict_and_keep(
    variables: dict, images: Float[Array, "B V H W 3"], config: ModelConfig, *, num_refs: int
) -> tuple[Prediction, Float[Array, "B V N E"], list[Array]]:
    """All paths' ``Prediction``, the encoder's answer, and the decoder's.

    The latter: tokens ``[B, R, V, N, D]`` and, of heads that read several layers, each layer's.
    """
    kept: dict[str, Any] = {}

    def noted(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        answer = method(*args, **kwargs)
        if isinstance(context.module, Encoder | Decoder) and context.method_name == "__call__":
            kept[type(context.module).__name__] = answer
        return answer

    with nn.intercept_methods(noted):
        prediction = MVDust3r(config).apply(variables, images, num_refs=num_refs, all_paths=True)
    tokens, layers = kept["Decoder"]
    return prediction, kept["Encoder"], [tokens, *([] if layers is None else layers)]


def predict_decoded(
    variables: dict,
    images: Float[Array, "B V H W 3"],
    tokens: Float[Array, "B V N E"],
    decoded: list[Float[Array, "B 1 V N D"]],
    config: ModelConfig,
) -> Prediction:
    """The heads alone, with the encoder's and the decoder's answers given (`predict_and_keep`).

    View 0 is the reference of the one path.
    """
    layers = jnp.stack(decoded[1:]) if decoded[1:] else None

    def known(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, Encoder):
            return tokens
        if context.method_name == "__call__" and isinstance(context.module, Decoder):
            return decoded[0], layers
        return method(*args, **kwargs)

    with nn.intercept_methods(known):
        return MVDust3r(config).apply(variables, images, num_refs=1)
