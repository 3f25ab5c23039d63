"""A network in two parts: the encoder once for every image, the rest as often as is wanted."""

from __future__ import annotations

from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models.encoder import Encoder
from mvdust3r_jax.models.mvdust3r import ModelConfig, MVDust3r
from mvdust3r_jax.types import Prediction


def encode_views(
    variables: dict, images: Float[Array, "*batch H W 3"], config: ModelConfig
) -> Float[Array, "*batch N D"]:
    """The encoder alone."""
    c = config
    encoder = Encoder(
        c.enc_dim, c.enc_depth, c.enc_heads, c.patch, c.dtype, c.remat, unroll=c.unroll
    )
    return encoder.apply({"params": variables["params"]["encoder"]}, images)


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
