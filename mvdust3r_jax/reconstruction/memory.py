"""What a reconstruction will need, before it is run: bytes, operations and seconds.

The bytes follow the largest arrays that are alive together: weights, tokens of all views and paths
with what a layer makes of them, and the per-pixel heads of the few views that are at work at once.
benchmarks/many_views.py measures what whole runs take, tests/reconstruction/memory_test.py compares
the two. Letters as in `types`.
"""

from __future__ import annotations

import dataclasses
import math
import sys

import jax

from mvdust3r_jax import allotted
from mvdust3r_jax.models import attention, sizes
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.models.point_heads import POINT_HEADS
from mvdust3r_jax.weights.shapes import variable_shapes

try:
    import resource
except ImportError:  # Windows
    resource = None

_FLOAT = 4
_GIB = 1 << 30
# Copies of all results that are alive together: the network's, the host's, the exporters'.
_RESULT_COPIES = 3
# Arrays of the tokens' size inside a layer: state, norms, queries, keys, values, the MLP's four.
_LAYER_COPIES = 21
# Tiles, transformed and back, double what the skip CNN holds on CPUs.
_WINOGRAD_FACTOR = 2
# Python, XLA and the compiled program themselves.
_FIXED_BYTES = 500 << 20
# Of the free memory, this share is used.
_USABLE_SHARE = 0.9


class MemoryLimitError(ValueError):
    """More memory would be needed than there is; the message gives the number of views that fit."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Peak bytes of the process (on its device), and floating-point operations."""

    bytes: int
    flops: float

    def seconds(self, flops_per_second: float) -> float:
        """At a given rate."""
        return self.flops / flops_per_second

    def __str__(self) -> str:
        """As said to people."""
        return f"{self.bytes / _GIB:.1f} GiB of memory and {self.flops / 1e12:.2g} TFLOP"


def estimate(
    config: ModelConfig, num_views: int, num_refs: int, height: int, width: int
) -> Estimate:
    """For one pass with path 0's results over ``V`` views of ``H x W`` pixels."""
    return Estimate(
        bytes=int(
            _FIXED_BYTES
            + _FLOAT * parameter_count(config)
            + peak_activations(config, num_views, num_refs, height, width)
            + _RESULT_COPIES * _result_bytes(config, num_views, height, width)
        ),
        flops=forward_flops(config, views=num_views, num_refs=num_refs, height=height, width=width)[
            "total"
        ],
    )


def parameter_count(config: ModelConfig) -> int:
    """Parameters of the network; batch statistics are counted as well."""
    return sum(map(math.prod, variable_shapes(config).values()))


def peak_activations(
    config: ModelConfig, num_views: int, num_refs: int, height: int, width: int
) -> float:
    """Bytes of the largest stage: encoder, decoder, or heads with the results."""
    tokens = num_views * (height // config.patch) * (width // config.patch)
    encoder = _FLOAT * _LAYER_COPIES * tokens * config.enc_dim
    decoder = _FLOAT * _LAYER_COPIES * num_refs * tokens * config.dec_dim
    on_cpu = jax.default_backend() == "cpu"
    scores = attention.CACHE_BYTES if on_cpu else 2 * attention.SCORE_BYTES
    results = _RESULT_COPIES * _result_bytes(config, num_views, height, width)
    return max(
        encoder + scores,
        decoder + scores,
        results + _head_bytes(config, num_views, height * width, on_cpu),
    )


def _head_bytes(config: ModelConfig, num_views: int, pixels: int, on_cpu: bool) -> float:
    """Wide maps of as many views as `heads.few_views_at_once` takes."""
    skip = sizes.skip_pixel_bytes(config.skip_width) * (_WINOGRAD_FACTOR if on_cpu else 1)
    view = pixels * (skip if config.skip else POINT_HEADS[config.head].pixel_bytes)
    at_once = 1 if on_cpu else num_views
    return max(view, min(at_once * view, sizes.MAP_BYTES))


def _result_bytes(config: ModelConfig, num_views: int, height: int, width: int) -> int:
    channels = 3 + 3 + 1 + config.gaussians * (3 * (config.sh_degree + 1) ** 2 + 1 + 3 + 4)
    return _FLOAT * channels * num_views * height * width


# ---------------------------------------------------------------- limits


def check(
    config: ModelConfig,
    num_views: int,
    num_refs: int,
    height: int,
    width: int,
    limit: int | None = None,
) -> Estimate:
    """The estimate, if it fits into ``limit`` bytes in all.

    By default that is what is free and what the weights hold, which are loaded by then.

    Raises:
      MemoryLimitError: with the largest number of views that fits.
    """
    limit = usable_bytes(config) if limit is None else limit
    needed = estimate(config, num_views, num_refs, height, width)
    if needed.bytes <= limit:
        return needed
    fits = largest_view_count(config, num_refs, height, width, limit)
    hint = f"at most {fits} views fit" if fits >= 2 else "not even 2 views fit: use smaller images"
    raise MemoryLimitError(
        f"{num_views} views of {height} x {width} need about {needed.bytes / _GIB:.1f} GiB of "
        f"memory, {limit / _GIB:.1f} GiB can be used; {hint}"
    )


def usable_bytes(config: ModelConfig) -> int:
    """What an estimate may come to once the weights are loaded: what is free, and the weights."""
    return free_bytes() + _FLOAT * parameter_count(config)


def largest_view_count(
    config: ModelConfig, num_refs: int, height: int, width: int, limit: int
) -> int:
    """The most views whose estimate stays within ``limit`` bytes (0 if not even one does)."""
    low, high = 0, 100_000
    while low < high:
        middle = (low + high + 1) // 2
        refs = min(num_refs, middle)
        fits = estimate(config, middle, refs, height, width).bytes <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def free_bytes() -> int:
    """What may be used on the default device: its own memory, or the machine's (or container's)."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(_USABLE_SHARE * allotted.free_memory())


def peak_bytes() -> int | None:
    """The most that the default device, or else this process, has held so far; None if untold."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    if resource is None:
        return None
    # Kibibytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
