"""Operations of one forward pass in closed form: what the network needs, nothing more.

Matrix products and convolutions only, one multiply-accumulate = 2 operations; products with padding
zeros of convolutions are not counted. ``W = V - 1`` sources, ``n = N`` tokens a view.
"""

from __future__ import annotations

from mvdust3r_jax.models import dpt, heads
from mvdust3r_jax.models.mvdust3r import ModelConfig

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
    total = _dpt(config, size) if config.head == "dpt" else n * dim * 4 * pixels
    if config.head == "conv":
        total += _conv_head(config, size, n)
    if config.gaussians:
        hidden, channels = config.gaussian_hidden, 3 * (config.sh_degree + 1) ** 2 + 1 + 3 + 4
        total += n * (4 * dim * hidden + hidden * channels * pixels)
    return total


def _conv_head(config: ModelConfig, size: tuple[int, int], n: int) -> int:
    """What the correction costs beyond the linear head."""
    wide, area = config.conv_width, heads.CELL**2
    rows, columns = (side // heads.CELL for side in size)
    convolutions = heads.CONVOLUTIONS * rows * columns * 9 * wide**2
    coarse = n * config.dec_dim * config.patch**2 // area * wide
    return coarse + rows * columns * (3 + 4) * area * wide + convolutions


def _conv(height: int, width: int, kernel: int, channels_in: int, channels_out: int) -> int:
    """A convolution that keeps the size."""

    def taps(size: int) -> int:
        reach = kernel // 2
        return sum(max(size - abs(offset), 0) for offset in range(-reach, reach + 1))

    return taps(height) * taps(width) * channels_in * channels_out


def _skip_cnn(wide: int, height: int, width: int) -> int:
    return (
        _conv(height, width, 3, 6, wide)
        + 2 * _conv(height, width, 5, wide, wide)
        + _conv(height, width, 3, wide, 3)
    )


def _upsample(height: int, width: int, channels: int) -> int:
    """Doubling by two matrix products: rows, then columns."""
    return channels * (2 * height * height * width + 2 * height * 2 * width * width)


def _dpt(config: ModelConfig, size: tuple[int, int]) -> int:
    rows, columns = (side // config.patch for side in size)
    channels, wide, out = dpt.MAP_CHANNELS, dpt.WIDTH, dpt.OUT_WIDTH
    half = (rows + 1) // 2, (columns + 1) // 2
    sizes = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), half]
    dims = [config.enc_dim] + [config.dec_dim] * 3
    total = sum(rows * columns * d * c for d, c in zip(dims, channels, strict=True))
    total += rows * columns * (16 * channels[0] ** 2 + 4 * channels[1] ** 2)
    total += _strided_conv(rows, columns, channels[3])
    for i, (h, w) in enumerate(sizes):
        units = 2 if i == 3 else 4  # 3x3 convolutions in residual units
        total += _conv(h, w, 3, channels[i], wide) + units * _conv(h, w, 3, wide, wide)
        total += h * w * wide**2 + _upsample(h, w, wide)
    h, w = 8 * rows, 8 * columns
    total += _conv(h, w, 3, wide, out) + _upsample(h, w, out)
    return total + _conv(2 * h, 2 * w, 3, out, out) + 4 * h * w * out * 4


def _strided_conv(rows: int, columns: int, channels: int) -> int:
    """3x3, stride 2, padding 1."""

    def taps(size: int) -> int:
        return sum(0 <= 2 * o + k - 1 < size for o in range((size + 1) // 2) for k in range(3))

    return taps(rows) * taps(columns) * channels**2
