"""From photographs to a `Scene`: one forward pass, then the focal length and the poses.

    model = load_model("weights.safetensors")
    scene = reconstruct(["a.jpg", "b.jpg", "c.jpg"], model)
    scene.save("out", ["ply", "glb"])

Photographs keep their order in all results; points are in the camera frame of one of them, the
reference. The network itself sees them in the order that spreads its references over the views.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.media.fitting import Fit, Fitted, fit_photo, original_intrinsics
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.masks import with_mask
from mvdust3r_jax.media.photographs import Photo, SupportsArray, read_photo
from mvdust3r_jax.models import window_plan
from mvdust3r_jax.reconstruction import arguments, memory
from mvdust3r_jax.reconstruction.arguments import Source
from mvdust3r_jax.reconstruction.known_world import align_to_poses
from mvdust3r_jax.reconstruction.mirror import asking_mirror_too
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.network import (
    DEFAULT_REFS,
    Answer,
    Reference,
    asking,
    default_reference,
    features_of,
)
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.reconstruction.scene_cameras import (
    LENSES,
    CameraPrograms,
    Lenses,
    camera_programs,
    centered_intrinsics,
    find_cameras,
    known_intrinsics,
)
from mvdust3r_jax.reconstruction.windows import ask_in_windows


def reconstruct(
    images: Iterable[Source],
    model: Model,
    *,
    reference: Reference | None = None,
    num_refs: int = DEFAULT_REFS,
    mirrored: bool = False,
    window: int | None = None,
    window_by: Literal["order", "likeness"] = "order",
    kept_in: str | os.PathLike | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    cameras: KnownCameras | None = None,
    focal_px: float | Sequence[float] | Literal["exif", "one", "each"] | None = None,
    masks: Sequence[str | os.PathLike | SupportsArray | None] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    advance: Callable[[float], None] = lambda share: None,
    memory_limit: int | None = None,
) -> Scene:
    """Points, Gaussians and cameras of a scene seen in at least two photographs.

    Args:
      images: files, arrays [h, w], [h, w, 3] or [h, w, 4] (uint8, uint16, or float in [0, 1]; of
        NumPy, JAX or PyTorch), PIL images or `Photo` objects.
      model: from `load_model`.
      reference: the photograph in whose camera frame the points are: its number, "first",
        "middle", the one that to the encoder is most like all others, or "auto", the one on whose
        path the network is surest: of the ``num_refs`` paths of MV-DUSt3R+, or with other networks
        of all photographs, tried in turn. By default "auto" where that costs little (MV-DUSt3R+),
        else "middle", of two photographs "first".
      window: of more photographs than this, so many at a time (`windows`); memory does not grow
        with their number, and a reference by a word is one of the first window.
      window_by: which are taken together: those that follow each other, "order", or those that are
        alike to the encoder, "likeness", where the order says nothing.
      kept_in: a folder in which windows' answers are kept, for a run that is begun again.
      num_refs: references of MV-DUSt3R+ (at most as many as there are views).
      mirrored: ask the network of the mirror images, too, and take the mean: fewer errors for
        twice the network's time.
      size: (height, width) for the network, one number for both; by default what it was trained
        at.
      fit: "crop" to that aspect or "pad" to it.
      cameras: known intrinsics and poses at the original resolution; poses make the scene metric.
      focal_px: known focal length at the original resolution, one or one per photograph, or
        "exif" to take it from the files; the principal point is then the middle. "one" estimates
        one for all, "each" one for each; by default one for all, but its own for a photograph whose
        points plainly say so (another zoom).
      masks: one per photograph, as `media.masks.with_mask` takes it: which pixels count; None
        where all do.
      progress: called with the name of each stage as it begins.
      advance: called with the share that is done of a stage that tells.
      memory_limit: bytes; by default what is free.

    Returns:
      The scene, in the order of ``images``, all arrays NumPy.

    Raises:
      ValueError: fewer than two images, unusable ones, or arguments that do not fit each other.
      memory.MemoryLimitError: it would not fit, with the number of views that would.
    """
    images = arguments.as_list(images)
    views = len(images)
    height, width = arguments.as_size(
        model.image_size if size is None else size, model.config.patch
    )
    known = cameras or KnownCameras()
    arguments.check_counts(views, num_refs, known, masks)
    arguments.check_focal(focal_px, views, known)
    arguments.check_windows(window, window_by, kept_in)
    windows = window_plan.in_order(views, window)
    at_once = len(windows[0])
    num_refs = min(num_refs, at_once) if model.config.cross_ref else 1
    if reference is None:
        reference = default_reference(model.config, at_once, num_refs, height, width)
    reference = arguments.as_reference(reference, views)
    begin = 0 if reference == "first" else reference
    begin = begin if isinstance(begin, int) and at_once < views else None
    if begin is not None:
        # The network is told its place in the first window; by likeness, that begins with it.
        windows = window_plan.begun_with(windows, begin)
        reference = windows[0].index(begin) if window_by == "order" else 0
    memory.check(model.config, at_once, num_refs, height, width, memory_limit)
    clock = _Clock(progress)
    clock.begin("read")
    photos, fitted = _read(images, height, width, fit, known, masks)
    clock.begin("compile")
    pixels = np.stack([f.pixels for f in fitted])
    lenses = focal_px if isinstance(focal_px, str) and focal_px in LENSES else "auto"
    intrinsics = known_intrinsics(photos, fitted, known, focal_px if lenses == "auto" else None)
    if intrinsics is not None:
        lenses = "known"
    # Both are compiled at the same time, and the one for cameras while the network is at work.
    with ThreadPoolExecutor(1) as beside:
        poses = beside.submit(camera_programs, *pixels.shape[:3], lenses)
        shape = (at_once, *pixels.shape[1:])
        ask = asking(model, shape, num_refs, reference, memory_limit, advance)
        if mirrored:
            ask = asking_mirror_too(ask, model, shape, num_refs)
        clock.begin("network")
        if at_once < views:
            facts = (model.config, num_refs, reference, *(["mirrored"] if mirrored else []))
            told = dict(kept_in=kept_in, facts=facts)
            if window_by == "likeness":
                features = features_of(model, pixels, at_once)
                windows = window_plan.by_likeness(features, at_once, begin)
            answer = ask_in_windows(ask, model.variables, pixels, windows, **told, advance=advance)
        else:
            answer = ask(model.variables, pixels)
        clock.begin("cameras")
        names = arguments.scene_names(images, [photo.name for photo in photos])
        scene = _scene(photos, names, fitted, answer, intrinsics, poses.result(), lenses)
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


# ---------------------------------------------------------------- input


def _read(images, height, width, fit, known: KnownCameras, masks):
    photos, fitted = [], []
    for i, source in enumerate(images):
        photo = source
        if not isinstance(source, Photo):
            name = None if isinstance(source, str | os.PathLike) else f"image_{i:04d}"
            photo = read_photo(source, name=name, target=(height, width))
        _check_visible(photo)
        if masks is not None and masks[i] is not None:
            photo = with_mask(photo, masks[i])
        center = None
        if known.intrinsics is not None:
            center = known.intrinsics_of(i, photo.original_size, photo.name)[:2, 2]
        fitted.append(fit_photo(photo, height, width, fit, center))
        if not fitted[-1].mask.any():
            raise ImageError(
                f"nothing of {photo.name} is left by its mask or transparency in the part that "
                "is used"
            )
        # The decoded pixels are not needed any more; with many views they would be a lot.
        photos.append(dataclasses.replace(photo, pixels=fitted[-1].pixels, mask=fitted[-1].mask))
    return photos, fitted


def _check_visible(photo: Photo) -> None:
    """ImageError where the photograph itself, before any mask is given, shows nothing."""
    if not photo.mask.any():
        error = ImageError(f"{photo.name} is transparent everywhere: no pixel of it is shown")
        error.add_note("save it without transparency (its alpha channel), or leave it out")
        raise error


# ---------------------------------------------------------------- the scene


def _scene(
    photos: list[Photo],
    names: list[str],
    fitted: list[Fitted],
    answer: Answer,
    known,
    programs: CameraPrograms,
    lenses: Lenses,
) -> Scene:
    """The prediction with its cameras; ``known``: intrinsics, or None."""
    pred = answer.prediction
    maps = np.stack([f.net_from_original for f in fitted])
    valid = np.stack([f.mask for f in fitted])
    confidence = np.where(valid & np.isfinite(pred.points).all(-1), pred.confidence, 0)
    start = centered_intrinsics(photos, maps) if known is None else known
    intrinsics, world_from_cam, ok = find_cameras(
        programs, pred.points, confidence, start, lenses, answer.reference
    )
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
        names=names,
        masks=valid,
        reference=answer.reference,
        reference_margin=answer.margin,
    )
