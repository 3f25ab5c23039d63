"""Operations of one forward pass in closed form: what the network needs, nothing more.

Matrix products and convolutions only, one multiply-accumulate = 2 operations; products with padding
zeros of convolutions are not counted. ``W = V - 1`` sources, ``n = N`` tokens a view.
"""

from __future__ import annotations

from dataclasses import replace

from mvdust3r_jax.models import winograd
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.head_macs import Shape, conv
from mvdust3r_jax.models.point_heads import POINT_HEADS

MLP = 8  # multiply-accumulates of the two MLP layers, in units of a token's D * D
SELF = 4  # q, k, v and output projection
CROSS_QUERY = 2  # query and output projection
CROSS_MEMORY = 2  # key and value


def forward_flops(
    config: ModelConfig,
    *,
    views: int,
    num_refs: int,
    height: int,
    width: int,
    all_paths: bool = False,
) -> dict[str, int]:
    """Operations of one sample: encoder, decoder, cross_ref, heads, skip_cnn, and total."""
    tokens = (height // config.patch) * (width // config.patch)
    paths = num_refs if all_paths or config.cross_ref else 1
    results = views * (num_refs if all_paths else 1)
    macs = {
        "encoder": views * _encoder(config, tokens),
        "decoder": views * tokens * config.enc_dim * config.dec_dim
        + config.dec_depth * paths * _decoder_layer(config.dec_dim, tokens, views),
        "cross_ref": _cross_ref(config, tokens, views, num_refs, all_paths),
        "heads": results * _heads(config, (height, width), tokens),
        "skip_cnn": results * config.skip * _skip_cnn(config.skip_width, height, width),
    }
    flops = {stage: 2 * count for stage, count in macs.items()}
    return flops | {"total": sum(flops.values())}


def forward_flops_on_cpu(
    config: ModelConfig, *, views: int, num_refs: int, height: int, width: int
) -> dict[str, int]:
    """`forward_flops` of inference on CPUs: wide convolutions by Winograd's algorithm."""
    size = dict(height=height, width=width)
    flops = forward_flops(config, views=views, num_refs=num_refs, **size)
    wide = config.skip_width
    saved = conv(height, width, 5, wide, wide) - winograd.macs(height, width, wide, wide)
    less = 2 * views * config.skip * 2 * saved
    changed = {stage: flops[stage] - less for stage in ("skip_cnn", "total")}
    return flops | changed


def computed_flops(
    config: ModelConfig, backend: str, *, views: int, num_refs: int, height: int, width: int
) -> int:
    """Operations of inference that are carried out on a backend of JAX ("cpu", "gpu", "tpu")."""
    count = forward_flops_on_cpu if backend == "cpu" else forward_flops
    return count(config, views=views, num_refs=num_refs, height=height, width=width)["total"]


def across_views_flops(config: ModelConfig, *, views: int, num_refs: int, tokens: int) -> int:
    """Of these, the decoder's scores and weighted sums between views: they grow as ``V^2``.

    tokens: of one view.
    """
    paths = num_refs if config.cross_ref else 1
    layer = views * _attention(config.dec_dim, tokens, (views - 1) * tokens)
    return 2 * config.dec_depth * paths * layer


def choice_flops(config: ModelConfig, *, views: int, num_refs: int, height: int, width: int) -> int:
    """Operations of `reference_choice.surest_of_paths`, in all."""
    size = dict(views=views, num_refs=num_refs, height=height, width=width)
    light = replace(config, skip=False, gaussians=False)
    one_path = forward_flops(config, **size)
    all_paths = forward_flops(light, **size, all_paths=True)
    return all_paths["total"] + one_path["heads"] + one_path["skip_cnn"]


def _attention(dim: int, queries: int, keys: int) -> int:
    """Scores and weighted sums."""
    return 2 * queries * keys * dim


def _encoder(config: ModelConfig, n: int) -> int:
    dim = config.enc_dim
    layer = n * (SELF + MLP) * dim**2 + _attention(dim, n, n)
    return n * 3 * config.patch**2 * dim + config.enc_depth * layer


def _decoder_layer(dim: int, n: int, views: int) -> int:
    """One path. Source tokens are memory of both weight sets, the reference's of one."""
    sources = views - 1
    queries = views * n * (SELF + CROSS_QUERY + MLP) * dim**2
    memory = (views + sources) * n * CROSS_MEMORY * dim**2
    return queries + memory + views * (_attention(dim, n, n) + _attention(dim, n, sources * n))


def _cross_ref(config: ModelConfig, n: int, views: int, num_refs: int, all_paths: bool) -> int:
    if not config.cross_ref:
        return 0
    full = views * _cross_ref_layer(config.dec_dim, n, num_refs, num_refs)
    last = full if all_paths else views * _cross_ref_layer(config.dec_dim, n, 1, num_refs)
    return (config.dec_depth - 1) * full + last


def _cross_ref_layer(dim: int, n: int, queries: int, paths: int) -> int:
    """One view; with one querying path of several, that path is nobody's memory."""
    own = queries * (n * (SELF + MLP) * dim**2 + _attention(dim, n, n))
    if paths == 1:
        return own
    memory = paths if queries == paths else paths - queries
    cross = queries * (n * CROSS_QUERY * dim**2 + _attention(dim, n, (paths - 1) * n))
    return own + cross + memory * n * CROSS_MEMORY * dim**2


def _heads(config: ModelConfig, size: tuple[int, int], n: int) -> int:
    dim, pixels = config.dec_dim, config.patch**2
    shape = Shape(n, size, config.patch, config.enc_dim, dim, config.conv_width)
    total = POINT_HEADS[config.head].macs(shape)
    if config.gaussians:
        hidden, channels = config.gaussian_hidden, 3 * (config.sh_degree + 1) ** 2 + 1 + 3 + 4
        total += n * (4 * dim * hidden + hidden * channels * pixels)
    return total


def _skip_cnn(wide: int, height: int, width: int) -> int:
    return (
        conv(height, width, 3, 6, wide)
        + 2 * conv(height, width, 5, wide, wide)
        + conv(height, width, 3, wide, 3)
    )
