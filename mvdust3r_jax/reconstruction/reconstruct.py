"""From photographs to a `Scene`: one forward pass, then the focal length and the poses.

    model = load_model("weights.safetensors")
    scene = reconstruct(["a.jpg", "b.jpg", "c.jpg"], model)
    scene.save("out", ["ply", "glb"])

Photographs keep their order in all results; the first is the reference, in whose camera frame the
points are. The network itself sees them in the order that spreads its references over the views.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8
from PIL import Image

from mvdust3r_jax.cameras import from_pointmaps
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.media.fitting import Fit, Fitted, fit_photo, original_intrinsics
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.masks import with_mask
from mvdust3r_jax.media.photographs import Photo, read_photo
from mvdust3r_jax.models.mvdust3r import ModelConfig, MVDust3r
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.reconstruction import memory
from mvdust3r_jax.reconstruction.known_world import align_to_poses
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.splat.pointmaps import clip_scales
from mvdust3r_jax.types import Prediction

# References of the MV-DUSt3R+ release, in training and evaluation.
DEFAULT_REFS = 4
# Where the focal length cannot be found, the field of view of a usual phone camera is assumed.
_FALLBACK_FOCAL_PER_WIDTH = 0.8

Source = str | os.PathLike | np.ndarray | Image.Image | Photo


def reconstruct(
    images: Sequence[Source],
    model: Model,
    *,
    num_refs: int = DEFAULT_REFS,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    cameras: KnownCameras | None = None,
    focal_px: float | Sequence[float] | Literal["exif"] | None = None,
    masks: Sequence[str | os.PathLike | np.ndarray] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    memory_limit: int | None = None,
) -> Scene:
    """Points, Gaussians and cameras of a scene seen in at least two photographs.

    Args:
      images: files, arrays [h, w, 3] (uint8, or float in [0, 1]), PIL images or `Photo` objects.
      model: from `load_model`.
      num_refs: references of MV-DUSt3R+ (at most as many as there are views).
      size: (height, width) for the network; by default what it was trained at.
      fit: "crop" to that aspect or "pad" to it.
      cameras: known intrinsics and poses at the original resolution; poses make the scene metric.
      focal_px: known focal length at the original resolution, one or one per photograph, or
        "exif" to take it from the files; the principal point is then the middle.
      masks: one per photograph: which pixels count.
      progress: called with the name of each stage as it begins.
      memory_limit: bytes; by default what is free.

    Returns:
      The scene, in the order of ``images``, all arrays NumPy.

    Raises:
      ValueError: fewer than two images, unusable ones, or arguments that do not fit each other.
      memory.MemoryLimitError: it would not fit, with the number of views that would.
    """
    if isinstance(images, str | os.PathLike):
        raise ValueError("images must be a list of photographs, got a single path")
    views = len(images)
    height, width = size or model.image_size
    known = cameras or KnownCameras()
    _check(views, height, width, num_refs, model.config, known, masks)
    num_refs = min(num_refs, views) if model.config.cross_ref else 1
    memory.check(model.config, views, num_refs, height, width, memory_limit)
    clock = _Clock(progress)
    clock.begin("read")
    photos, fitted = _read(images, height, width, fit, known, masks)
    clock.begin("compile")
    pixels = np.stack([f.pixels for f in fitted])
    program = compiled_program(model, pixels.shape, num_refs)
    clock.begin("network")
    pred = jax.device_get(program(model.variables, pixels))
    clock.begin("cameras")
    valid = np.stack([f.mask for f in fitted])
    intrinsics = _known_intrinsics(photos, fitted, known, focal_px)
    scene = _scene(photos, fitted, pred, valid, intrinsics)
    if known.world_from_cam is not None:
        scene = align_to_poses(scene, known.world_from_cam)
    clock.begin("")
    return dataclasses.replace(scene, timings=clock.seconds)


class _Clock:
    """Seconds by stage."""

    def __init__(self, progress: Callable[[str], None]):
        self._progress = progress
        self._stage = ""
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = now - self._since
        self._stage, self._since = stage, now
        if stage:
            self._progress(stage)


def _check(views, height, width, num_refs, config: ModelConfig, known: KnownCameras, masks) -> None:
    if views < 2:
        raise ValueError(f"at least 2 images are needed, got {views}")
    if height % config.patch or width % config.patch or min(height, width) < config.patch:
        raise ValueError(
            f"the network takes sizes that are multiples of {config.patch}, got {height} x {width}"
        )
    if num_refs < 1:
        raise ValueError(f"num_refs must be at least 1, got {num_refs}")
    for name, given in [
        ("masks", masks),
        ("intrinsics", known.intrinsics),
        ("poses", known.world_from_cam),
    ]:
        if given is not None and len(given) != views:
            raise ValueError(f"{len(given)} {name} do not fit {views} images")


# ---------------------------------------------------------------- input


def _read(images, height, width, fit, known: KnownCameras, masks):
    photos, fitted = [], []
    for i, source in enumerate(images):
        photo = source
        if not isinstance(source, Photo):
            name = None if isinstance(source, str | os.PathLike) else f"image_{i:04d}"
            photo = read_photo(source, name=name, target=(height, width))
        if masks is not None:
            photo = with_mask(photo, masks[i])
        center = None
        if known.intrinsics is not None:
            center = known.intrinsics_of(i, photo.original_size, photo.name)[:2, 2]
        fitted.append(fit_photo(photo, height, width, fit, center))
        if not fitted[-1].mask.any():
            raise ImageError(
                f"nothing of {photo.name} is left by its mask in the part that is used"
            )
        # The decoded pixels are not needed any more; with many views they would be a lot.
        photos.append(dataclasses.replace(photo, pixels=fitted[-1].pixels, mask=fitted[-1].mask))
    return photos, fitted


# ---------------------------------------------------------------- the network


def forward(
    config: ModelConfig, num_refs: int, variables: dict, pixels: UInt8[Array, "V H W 3"]
) -> Prediction:
    """One pass from uint8 pixels to the prediction, both in the order of the photographs."""
    order = np.array(network_order(pixels.shape[0]))
    images = pixels[order].astype(jnp.float32) / 127.5 - 1
    pred = MVDust3r(config).apply(variables, images[None], num_refs=num_refs)
    pred = _rendered_scales(pred, config.max_scale)
    back = np.argsort(order)
    return jax.tree.map(lambda x: x[0][back], pred)


def _rendered_scales(pred: Prediction, max_scale: float) -> Prediction:
    """Gaussians' scales as training rendered them, in the units of the points."""
    if pred.gaussians is None:
        return pred
    factor = mean_distance(pred.points, jnp.isfinite(pred.points).all(axis=-1))
    scales = clip_scales(pred.gaussians.scales, factor, max_scale)
    scales = scales * factor[:, None, None, None, None]
    return pred.replace(gaussians=pred.gaussians.replace(scales=scales))


def compiled_program(model: Model, shape: tuple[int, int, int, int], num_refs: int):
    """`forward` for photographs of one shape [V, H, W, 3]: a function of (variables, pixels)."""
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model.variables)
    leaves, treedef = jax.tree.flatten(abstract)
    return _compiled(model.config, num_refs, shape, tuple(leaves), treedef)


@functools.lru_cache(maxsize=8)
def _compiled(config: ModelConfig, num_refs: int, shape: tuple[int, ...], leaves, treedef):
    """The program of one (V, H, W, R): compiled once, whatever the scene."""
    variables = jax.tree.unflatten(treedef, leaves)
    pixels = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return jax.jit(functools.partial(forward, config, num_refs)).lower(variables, pixels).compile()


# ---------------------------------------------------------------- cameras


def _known_intrinsics(photos, fitted: list[Fitted], known: KnownCameras, focal_px):
    """At the network's resolution [V, 3, 3]; None where nothing is known."""
    maps = np.stack([f.net_from_original for f in fitted])
    if known.intrinsics is not None:
        given = [known.intrinsics_of(i, p.original_size, p.name) for i, p in enumerate(photos)]
        return maps @ np.stack(given)
    if focal_px is None:
        return None
    if isinstance(focal_px, str):
        focal_px = [photo.exif_focal_px for photo in photos]
        without = [p.name for p, focal in zip(photos, focal_px, strict=True) if focal is None]
        if without:
            raise ValueError(f"no EXIF focal length in {', '.join(without[:5])}")
    focals = np.broadcast_to(np.asarray(focal_px, float), len(photos))
    if not (np.isfinite(focals) & (focals > 0)).all():
        raise ValueError(f"focal lengths must be positive numbers of pixels, got {focals.tolist()}")
    matrices = _centered_intrinsics(photos, maps)
    matrices[:, [0, 1], [0, 1]] = focals[:, None] * maps[:, [0, 1], [0, 1]]
    return matrices


def _centered_intrinsics(photos: list[Photo], maps: np.ndarray) -> np.ndarray:
    """[V, 3, 3] with focal length 1 and the principal point where the photograph's middle lies.

    The middle of w pixels is (w - 1) / 2. Uncropped it lands on (W - 1) / 2, not on the W / 2 of
    the published recipe, which moves the pixels by the half for it; here they stay as they are.
    """
    height, width = np.array([photo.original_size for photo in photos]).T
    middles = np.stack([(width - 1) / 2, (height - 1) / 2, np.ones(len(photos))], axis=-1)
    matrices = np.tile(np.eye(3), (len(photos), 1, 1))
    matrices[:, :, 2] = np.einsum("vij,vj->vi", maps, middles)
    return matrices


def _scene(photos: list[Photo], fitted: list[Fitted], pred: Prediction, valid, intrinsics) -> Scene:
    maps = np.stack([f.net_from_original for f in fitted])
    confidence = np.where(valid & np.isfinite(pred.points).all(-1), pred.confidence, 0)
    if intrinsics is None:
        centered = _centered_intrinsics(photos, maps)
        intrinsics = _with_estimated_focal(centered, pred.points[0], confidence[0])
    world_from_cam, ok = _poses(pred.points, confidence, intrinsics)
    return Scene(
        images_01=np.stack([f.pixels for f in fitted]).astype(np.float32) / 255,
        points=pred.points,
        confidence=pred.confidence,
        gaussians=pred.gaussians,
        world_from_cam=world_from_cam,
        pose_ok=ok,
        intrinsics=intrinsics.astype(np.float32),
        original_intrinsics=original_intrinsics(intrinsics, maps).astype(np.float32),
        original_sizes=np.array([photo.original_size for photo in photos]),
        names=[photo.name for photo in photos],
        masks=valid,
    )


def _with_estimated_focal(intrinsics: np.ndarray, points, confidence) -> np.ndarray:
    """One focal length from the reference view's pointmap, for all views (as in training)."""
    principal_px = jnp.asarray(intrinsics[0, :2, 2], jnp.float32)
    found = jnp.asarray(points), jnp.asarray(confidence)
    focal_px = float(from_pointmaps.confident_focal(*found, principal_px=principal_px))
    if not (np.isfinite(focal_px) and focal_px > 0):
        focal_px = _FALLBACK_FOCAL_PER_WIDTH * max(confidence.shape)
    intrinsics = intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] = focal_px
    return intrinsics


def _poses(points, confidence, intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """``world_from_cam`` and whether it was found; the reference's is the identity by definition.

    Each view is a batch of its own, so that each has its own focal length and principal point.
    """
    focal_px = jnp.asarray(np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1]), jnp.float32)
    found = from_pointmaps.poses_from_pointmaps(
        jnp.asarray(points)[:, None],
        jnp.asarray(confidence)[:, None],
        focal_px,
        principal_px=jnp.asarray(intrinsics[:, None, :2, 2], jnp.float32),
    )
    ok = np.array(found.ok[:, 0])
    ok[0] = True
    poses = np.where(ok[:, None, None], np.asarray(found.ref_from_cam[:, 0]), np.eye(4))
    poses[0] = np.eye(4)
    return poses.astype(np.float32), ok
