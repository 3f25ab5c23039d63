"""All numbers of an answer, each stage run on the devices and timed."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.devices import Devices
from mvdust3r_jax.evaluation.estimate import Estimate
from mvdust3r_jax.metrics.chamfer import capped_chamfer_kdtree, chamfer_distance
from mvdust3r_jax.metrics.pointmaps import ERROR_CAP
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.splat.pointmaps import MAX_SCALE, with_room_for_all
from mvdust3r_jax.types import Batch

# How the chamfer distance is found: on the devices, on the host, or on the host of a CPU only.
CHAMFER = ("auto", "blocked", "kdtree")


def chamfer_of(devices: Devices, clouds: tuple, kind: str) -> np.ndarray:
    """Chamfer distances (square meters) of the aligned clouds, capped; ``kind`` of ``CHAMFER``."""
    if kind == "blocked" or (kind == "auto" and jax.default_backend() != "cpu"):
        points, truth, valid = clouds
        distances = devices.run(chamfer_distance, (points, valid, truth, valid)).result
    else:
        rows = zip(*(np.asarray(x) for x in clouds), strict=True)
        distances = np.array([capped_chamfer_kdtree(p[v], t[v], ERROR_CAP) for p, t, v in rows])
    return np.minimum(np.asarray(distances), ERROR_CAP)


def novel_images(
    devices: Devices, estimate: Estimate, batch: Batch, network: Network | None
) -> tuple[jax.Array | None, float]:
    """Renders at the render-only cameras and their seconds; None without Gaussians or cameras.

    Every Gaussian is in them: where the rasterizer's lists were too short they are drawn again.
    """
    if estimate.gaussians is None or batch.images.shape[1] == estimate.points.shape[1]:
        return None, 0.0
    options = {"sh_degree": 0, "max_scale": MAX_SCALE}
    if network is not None:
        options = {"sh_degree": network.config.sh_degree, "max_scale": network.config.max_scale}
    seconds = 0.0

    def draw(capacity: int) -> tuple[jax.Array, jax.Array]:
        nonlocal seconds
        timed = devices.run(scores.novel_views, (estimate, batch), capacity=capacity, **options)
        seconds += timed.seconds
        return timed.result

    return with_room_for_all(draw, scores.room_for(estimate)), seconds


def numbers_of(
    devices: Devices,
    estimate: Estimate,
    batch: Batch,
    *,
    chamfer: str,
    perceptual: Any,
    network: Network | None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """All numbers of an estimate (name -> one value per sample), and seconds of each stage.

    perceptual: LPIPS' weights, None to leave that number out. network: whose Gaussians they are.
    """
    bare = estimate.replace(gaussians=None)
    (numbers, clouds), metrics_s, _ = devices.run(scores.score_and_clouds, (bare, batch))
    numbers = {name: np.asarray(values) for name, values in numbers.items()}
    start = time.perf_counter()
    numbers["cd"] = chamfer_of(devices, clouds, chamfer)
    seconds = {"metrics": metrics_s, "chamfer": time.perf_counter() - start}
    images, render_s = novel_images(devices, estimate, batch, network)
    if images is not None:
        truth = batch.images[:, estimate.points.shape[1] :]
        compare = scores.score_images if perceptual is not None else scores.score_images_plain
        constants = () if perceptual is None else (perceptual,)
        quality, images_s, _ = devices.run(compare, (images, truth), constants)
        numbers |= {name: np.asarray(values) for name, values in quality.items()}
        seconds |= {"render": render_s, "image_metrics": images_s}
    return numbers, seconds
