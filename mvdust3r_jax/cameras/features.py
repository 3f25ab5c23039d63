"""Features of photographs that show the same points: SIFT, matched and verified pair by pair.

pycolmap extracts features and fits a two-view geometry to the matches of a pair; without it
(the extra ``refine``) there is one error that says so. Everything runs on the CPU, with one thread
and fixed seeds: the same photographs give the same matches. Pixels have the first center at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mvdust3r_jax.geometry.pixels import center_from_corner

MAX_FEATURES = 4096
# Numbers of a SIFT descriptor.
_SIFT_SIZE = 128
# Lowe's test, as the angle between descriptors: the best match against the second best one, and the
# largest angle of all (radians).
_MAX_RATIO, _MAX_ANGLE = 0.8, 0.7
# A geometry is believed with so many inliers, and this share of a pair's matches. Of generated
# rooms, pairs that see nothing in common reach at most half, and others seven tenths.
_MIN_INLIERS, _MIN_SHARE = 20, 0.6
# Matches farther than this from their epipolar line are none.
_MAX_ERROR_PX = 4.0


class RefineExtraError(ImportError):
    """pycolmap, which the extra ``refine`` brings, is not installed."""


class Features(NamedTuple):
    """Of one photograph; descriptors are unit vectors."""

    pixel_px: Float[np.ndarray, "n 2"]
    descriptors: Float[np.ndarray, "n d"]


class Matches(NamedTuple):
    """Of two views: numbers of features that show the same point."""

    views: tuple[int, int]
    features: Int[np.ndarray, "m 2"]


def import_pycolmap() -> ModuleType:
    """pycolmap; RefineExtraError, in one line, where it is missing."""
    try:
        import pycolmap
    except ImportError as error:
        raise RefineExtraError(
            "refining cameras takes pycolmap: pip install 'mvdust3r-jax[refine]'"
        ) from error
    # It tells of every extractor, and of every step of a solver that has to be repeated.
    pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)
    return pycolmap


def extract(
    gray: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None = None
) -> Features:
    """About `MAX_FEATURES` features at most, those on the mask only: COLMAP drops whole levels."""
    pycolmap = import_pycolmap()
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu, options.num_threads = False, 1
    options.sift.max_num_features = MAX_FEATURES
    extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
    keypoints, found = extractor.extract_from_uint8_array(np.ascontiguousarray(gray))
    corner = np.array([[k.x, k.y] for k in keypoints], np.float64).reshape(-1, 2)
    descriptors = np.asarray(found.data, np.float32).reshape(len(corner), _SIFT_SIZE)
    pixel_px = center_from_corner(corner)
    if mask is not None:
        last = np.array(mask.shape)[::-1] - 1
        u, v = np.clip(np.rint(pixel_px).astype(int), 0, last).T
        pixel_px, descriptors = pixel_px[mask[v, u]], descriptors[mask[v, u]]
    length = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    return Features(pixel_px, descriptors / np.maximum(length, 1))


def mutual_matches(first: Features, second: Features) -> Int[np.ndarray, "m 2"]:
    """Features that are each other's nearest, and plainly nearer than the second nearest."""
    if min(len(first.descriptors), len(second.descriptors)) < 2:
        return np.zeros((0, 2), np.int64)
    cosine = np.clip(first.descriptors @ second.descriptors.T, -1, 1)
    two = np.argpartition(-cosine, 1, axis=1)[:, :2]
    best, other = (np.arccos(np.take_along_axis(cosine, two, axis=1))).T
    match = two[:, 0]
    plain = (best < _MAX_RATIO * other) & (best < _MAX_ANGLE)
    plain &= cosine.argmax(axis=0)[match] == np.arange(len(match))
    return np.stack([np.flatnonzero(plain), match[plain]], axis=-1)


def verified(
    first_px: Float[np.ndarray, "n 2"],
    second_px: Float[np.ndarray, "k 2"],
    matches: Int[np.ndarray, "m 2"],
    focal_px: float,
) -> Int[np.ndarray, "i 2"]:
    """Matches that one two-view geometry explains; none of a pair that has no trusted geometry.

    Pixels are measured from the principal points.
    """
    pycolmap = import_pycolmap()
    if len(matches) < _MIN_INLIERS:
        return np.zeros((0, 2), np.int64)
    options = pycolmap.TwoViewGeometryOptions()
    options.detect_watermark = False  # it takes the pictures' borders
    options.min_num_inliers = _MIN_INLIERS
    options.ransac.max_error = _MAX_ERROR_PX
    options.ransac.random_seed = 0
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[focal_px, 0, 0])
    found = pycolmap.estimate_calibrated_two_view_geometry(
        camera, first_px, camera, second_px, matches.astype(np.uint32), options
    )
    inliers = np.asarray(found.inlier_matches, np.int64).reshape(-1, 2)
    trusted = len(inliers) >= max(_MIN_INLIERS, _MIN_SHARE * len(matches))
    return inliers if trusted else inliers[:0]


def match_all(
    features: Sequence[Features], ideal_px: Sequence[np.ndarray], focal_px: float
) -> list[Matches]:
    """Verified matches of all pairs that have any.

    ideal_px: the features' pixels [n, 2] in photographs of the focal length ``focal_px`` whose
    principal point is (0, 0).
    """
    found = []
    for i, j in combinations(range(len(features)), 2):
        matches = mutual_matches(features[i], features[j])
        kept = verified(ideal_px[i], ideal_px[j], matches, focal_px)
        if len(kept):
            found.append(Matches((i, j), kept))
    return found
