"""Methods run on devices: batches spread over them, each stage compiled once and timed apart."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.metrics.chamfer import capped_chamfer_kdtree, chamfer_distance
from mvdust3r_jax.metrics.pointmaps import ERROR_CAP
from mvdust3r_jax.models.mvdust3r import ModelConfig
from mvdust3r_jax.splat.pointmaps import MAX_SCALE
from mvdust3r_jax.types import Batch

BASELINES = ("constant", "mean", "oracle")
NETWORKS = ("mvd", "mvdp", "mvdp_best", "points", "pairwise")
AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's configuration and weights."""

    config: ModelConfig
    variables: Any


class Devices:
    """Runs functions of batches with the batch axis spread over this process's devices."""

    def __init__(self, count: int):
        devices = jax.local_devices()[: count or None]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self._compiled: dict[Any, Any] = {}

    @property
    def size(self) -> int:
        """Number of devices."""
        return self.mesh.size

    def place(self, tree: Any, spread: bool) -> Any:
        """Arrays on the devices: batch axis spread, or a copy on each."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(AXIS) if spread else P()))

    def run(self, name: str, function: Callable, batches: tuple, constants: tuple = ()):
        """``function(*constants, *batches)``; returns (result, seconds, seconds of compilation).

        Each device runs the function on its own samples. Compiled once per name and shapes.
        """
        arguments = (*constants, *batches)
        leaves, structure = jax.tree.flatten(batches)
        key = (name, structure, tuple((x.shape, x.dtype) for x in leaves))
        start, compile_s = time.perf_counter(), 0.0
        if key not in self._compiled:
            specs = (P(),) * len(constants) + (P(AXIS),) * len(batches)
            mapped = jax.shard_map(
                function, mesh=self.mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
            )
            self._compiled[key] = jax.jit(mapped).lower(*arguments).compile()
            compile_s = time.perf_counter() - start
            start = time.perf_counter()
        result = jax.block_until_ready(self._compiled[key](*arguments))
        return result, time.perf_counter() - start, compile_s


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a method needs to know besides its network."""

    num_inputs: int
    num_refs: int
    graph: tuple[np.ndarray, np.ndarray]
    steps: int
    pairs_at_once: int
    mean: np.ndarray | None = None  # pointmaps [V, H, W, 3] of the method 'mean'


def zero_reference(batch: Batch) -> jax.Array:
    """View 0 is the reference."""
    return jnp.zeros(len(batch.images), jnp.int32)


def answer(devices: Devices, method: str, network: Network | None, batch: Batch, s: Settings):
    """The method's ``Estimate``, seconds of each stage, and of each stage's compilation."""
    seconds, compile_s = {}, {}

    def run(stage, name, function, batches, constants=()):
        result, seconds[stage], compile_s[stage] = devices.run(name, function, batches, constants)
        return result

    reference = zero_reference(batch)
    views = {"num_inputs": s.num_inputs}
    if method == "pairwise":
        options = views | {"config": network.config, "graph": s.graph}
        function = functools.partial(
            scores.predict_scene_pairs, **options, pairs_at_once=s.pairs_at_once
        )
        pairs = run("network", method, function, (batch,), (network.variables,))
        align = functools.partial(scores.align_scene_pairs, **views, steps=s.steps)
        return run("alignment", "align", align, (pairs, batch)), seconds, compile_s
    if method in BASELINES:
        make = getattr(scores, f"{method}_prediction")
        constants = (s.mean,) if method == "mean" else ()
        function = functools.partial(make, **views)
        prediction = run("network", method, function, (batch,), constants)
    else:
        alone = method == "mvd" or not network.config.cross_ref
        views |= {"config": network.config, "num_refs": 1 if alone else s.num_refs}
        paths = method == "mvdp_best"
        make = scores.predict_all_paths if paths else scores.predict
        function = functools.partial(make, **views)
        prediction = run("network", method, function, (batch,), (network.variables,))
        if paths:
            prediction, reference = run("choice", "best", scores.best_path, (prediction, batch))
        if method == "points":
            prediction = run("splats", "splats", scores.fixed_splats, (prediction, batch))
    reference = devices.place(reference, spread=True)
    estimate = run("pose", "pose", scores.add_poses, (prediction, batch, reference))
    return estimate, seconds, compile_s


def chamfer_of(devices: Devices, clouds: tuple, kind: str) -> np.ndarray:
    """Chamfer distances of the aligned clouds, capped; ``kind``: blocked, kdtree or auto."""
    if kind == "blocked" or (kind == "auto" and jax.default_backend() != "cpu"):
        points, truth, valid = clouds
        distances, _, _ = devices.run("chamfer", chamfer_distance, (points, valid, truth, valid))
    else:
        rows = zip(*(np.asarray(x) for x in clouds), strict=True)
        distances = np.array([capped_chamfer_kdtree(p[v], t[v], ERROR_CAP) for p, t, v in rows])
    return np.minimum(np.asarray(distances), ERROR_CAP)


def novel_images(devices: Devices, estimate, batch: Batch, network: Network | None):
    """Renders at the render-only cameras and their seconds; None without Gaussians or cameras."""
    if estimate.gaussians is None or batch.images.shape[1] == estimate.points.shape[1]:
        return None, 0.0
    degree, limit = 0, MAX_SCALE
    if network is not None:
        degree, limit = network.config.sh_degree, network.config.max_scale
    draw = functools.partial(scores.novel_views, sh_degree=degree, max_scale=limit)
    images, seconds, _ = devices.run(f"render {degree} {limit}", draw, (estimate, batch))
    return images, seconds


def numbers_of(devices: Devices, estimate, batch: Batch, kind: str, perceptual, network):
    """All numbers of an estimate (name -> one value per sample), and seconds of each stage."""
    bare = estimate.replace(gaussians=None)
    (numbers, clouds), metrics_s, _ = devices.run("score", scores.score_and_clouds, (bare, batch))
    numbers = {name: np.asarray(values) for name, values in numbers.items()}
    start = time.perf_counter()
    numbers["cd"] = chamfer_of(devices, clouds, kind)
    seconds = {"metrics": metrics_s, "chamfer": time.perf_counter() - start}
    images, render_s = novel_images(devices, estimate, batch, network)
    if images is not None:
        truth = batch.images[:, estimate.points.shape[1] :]
        compare = scores.score_images if perceptual is not None else scores.score_images_plain
        constants = () if perceptual is None else (perceptual,)
        quality, images_s, _ = devices.run("images", compare, (images, truth), constants)
        numbers |= {name: np.asarray(values) for name, values in quality.items()}
        seconds |= {"render": render_s, "image_metrics": images_s}
    return numbers, seconds
