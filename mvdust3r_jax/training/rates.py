"""What steps achieve: against the chips' peak, and against the time since the start.

Model FLOPs count three forward passes by the closed formula (nothing that is computed again, no
rasterizer, no LPIPS), so utilization (MFU) is comparable over settings of rematerialization.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import jax

from mvdust3r_jax.models.chips import peak_flops
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.storage.places import AnyPath

# A forward pass, and about two of them for the gradient.
_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step of this network costs. num_refs, num_targets: as in the objective."""

    network: ModelConfig
    num_refs: int
    num_targets: int

    def flops(self, samples: int, shape: Sequence[int]) -> float:
        """Operations of a step; ``shape``: of its images, ``[..., S, H, W, 3]``."""
        views, (height, width) = shape[-4] - self.num_targets, shape[-3:-1]
        one = forward_flops(
            self.network,
            views=views,
            num_refs=min(self.num_refs, views),
            height=height,
            width=width,
            all_paths=True,
        )
        return _PASSES * samples * one["total"]


class Rates:
    """Sums of an interval of steps, and what they come to a second."""

    def __init__(self, cost: Cost):
        self._cost, self._flops, self._pixels = cost, 0.0, 0
        peak = peak_flops(jax.devices()[0].device_kind)
        self._peak = peak and peak * jax.device_count()

    def count(self, samples: int, shape: Sequence[int]) -> None:
        """Adds a step: samples of all processes, shape of the images."""
        views, height, width = shape[-4:-1]
        self._flops += self._cost.flops(samples, shape)
        self._pixels += samples * views * height * width

    def report(self, seconds: float) -> dict[str, float]:
        """Numbers of the steps since the last report, which took ``seconds``."""
        rates = {
            "view_pixels_per_s": self._pixels / seconds,
            "model_tflops_per_s": self._flops / seconds / 1e12,
        }
        if self._peak:
            rates["mfu"] = self._flops / seconds / self._peak
        self._flops, self._pixels = 0.0, 0
        return rates | peak_memory()


def peak_memory() -> dict[str, float]:
    """The most bytes in use on any of this process's devices; nothing where they do not say."""
    known = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in known if "peak_bytes_in_use" in stats]
    return {"peak_device_bytes": float(max(peaks))} if peaks else {}


class Goodput:
    """Share of the time since a run's first start that went into steps that count.

    Across restarts: time in which the run was away, started, compiled, evaluated, saved or took
    steps that were lost to a kill is no good. productive_s, began: of what was done before; seconds
    of steps and the clock at the first start.
    """

    def __init__(self, productive_s: float = 0.0, began: float | None = None):
        self._productive_s = productive_s
        self._began = time.time() if began is None else began

    @classmethod
    def of(cls, metrics: AnyPath | None) -> Goodput:
        """Goes on behind what the metrics of earlier starts say."""
        lines = metrics.read_text("utf-8").splitlines() if metrics and metrics.exists() else []
        known: list[dict[str, Any]] = [r for r in map(json.loads, lines) if "productive_s" in r]
        return cls(known[-1]["productive_s"], known[-1]["began"]) if known else cls()

    def report(self, seconds: float) -> dict[str, float]:
        """Adds steps that took ``seconds``."""
        self._productive_s += seconds
        # The clock may have been set back.
        passed = max(time.time() - self._began, self._productive_s, 1e-9)
        return {
            "goodput": self._productive_s / passed,
            "productive_s": self._productive_s,
            "began": self._began,
        }
