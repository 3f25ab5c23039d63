"""Cameras of a scene: intrinsics that are known or found, poses out of the pointmaps.

Intrinsics are ``[V, 3, 3]`` at the network's resolution, where not said otherwise.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mvdust3r_jax.cameras.entries import check_focal
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.geometry.pixels import image_middle
from mvdust3r_jax.media.fitting import Fitted
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.reconstruction.programs import Leaf, Program, program
from mvdust3r_jax.types import AnyArray

# What may be asked for to be estimated: one focal length for all photographs, or one for each.
LENSES = ("one", "each")
# Else they are known, or one for all but for photographs whose points plainly say otherwise.
Lenses = Literal["known", "one", "each", "auto"]


def known_intrinsics(
    photos: list[Photo], fitted: list[Fitted], known: KnownCameras, focal_px
) -> Float[np.ndarray, "V 3 3"] | None:
    """What cameras or focal lengths say; None where nothing is known."""
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
    for photo, focal in zip(photos, focals, strict=True):
        check_focal(np.diag([focal, focal, 1]), photo.original_size, photo.name)
    matrices = centered_intrinsics(photos, maps)
    matrices[:, [0, 1], [0, 1]] = focals[:, None] * maps[:, [0, 1], [0, 1]]
    return matrices


def centered_intrinsics(
    photos: list[Photo], maps: Float[np.ndarray, "V 3 3"]
) -> Float[np.ndarray, "V 3 3"]:
    """With focal length 1 and the principal point where the photograph's middle lies.

    The middle of w pixels is (w - 1) / 2. Uncropped it lands on (W - 1) / 2, not on the W / 2 of
    the published recipe, which moves the pixels by the half for it; here they stay as they are.
    """
    middles = image_middle(np.array([photo.original_size for photo in photos]))
    middles = np.append(middles, np.ones((len(photos), 1)), axis=1)
    matrices = np.tile(np.eye(3), (len(photos), 1, 1))
    matrices[:, :, 2] = np.einsum("vij,vj->vi", maps, middles)
    return matrices


class CameraPrograms(NamedTuple):
    """`traced.found_cameras` and, where it may be needed, `traced.own_focal_factors`."""

    find: Program
    own: Program | None


def camera_programs(views: int, height: int, width: int, lenses: Lenses) -> CameraPrograms:
    """For pointmaps of one shape."""
    maps = [(views, height, width, 3), (views, height, width)]
    leaves = [Leaf(shape, "float32") for shape in (*maps, (views,), (views, 2), (views,))]
    find = program("found_cameras", (), (*leaves, Leaf((), "int32")))
    if lenses in ("known", "one"):
        return CameraPrograms(find, None)
    leaves = [Leaf(shape, "float32") for shape in (*maps, (views, 4, 4), (), (views, 2))]
    return CameraPrograms(find, program("own_focal_factors", (), tuple(leaves)))


def find_cameras(
    programs: CameraPrograms,
    points: Float[AnyArray, "V H W 3"],
    confidence: Float[AnyArray, "V H W"],
    intrinsics: Float[np.ndarray, "V 3 3"],
    lenses: Lenses,
    reference: int,
) -> tuple[Float[np.ndarray, "V 3 3"], Float[np.ndarray, "V 4 4"], Bool[np.ndarray, " V"]]:
    """Intrinsics, ``world_from_cam``, and whether it was found.

    The reference's pose is the identity by definition, as is one that was not found.
    """
    focal_px = intrinsics[:, 0, 0].astype(np.float32)
    aspect = (intrinsics[:, 0, 0] / intrinsics[:, 1, 1]).astype(np.float32)
    principal_px = intrinsics[:, :2, 2].astype(np.float32)
    maps = np.asarray(points, np.float32), np.asarray(confidence, np.float32)

    def find(focal_px):
        return programs.find(*maps, focal_px, principal_px, aspect, np.int32(reference))

    found = find(focal_px * np.float32(lenses == "known"))
    if programs.own is not None:
        factor = _own_factors(programs.own, maps, found, principal_px, lenses, reference)
        if (factor != 1).any():
            found = find(np.asarray(found["focal_px"]) * factor)
    if lenses != "known":
        intrinsics = intrinsics.copy()
        intrinsics[:, [0, 1], [0, 1]] = np.asarray(found["focal_px"])[:, None]
    ok, poses = np.array(found["ok"]), np.array(found["world_from_cam"])
    poses[~ok] = np.eye(4)
    poses[reference], ok[reference] = np.eye(4), True
    return intrinsics, poses.astype(np.float32), ok


def _own_factors(
    program: Program, maps, found, principal_px, lenses: Lenses, reference: int
) -> Float[np.ndarray, " V"]:
    """By which to multiply the common focal length, which is the reference's own."""
    poses, ok = np.array(found["world_from_cam"]), np.asarray(found["ok"])
    poses[~ok] = np.eye(4)
    focal_px = np.asarray(found["focal_px"])[reference]
    own = program(*maps, poses.astype(np.float32), np.float32(focal_px), principal_px)
    taken = np.array(own["usable" if lenses == "each" else "own"]) & ok
    taken[reference] = False
    return np.where(taken, own["factor"], 1).astype(np.float32)
