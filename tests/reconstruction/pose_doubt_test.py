"""Known poses that cannot be those of the photographs are told, with the likely mistake."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvdust3r_jax.reconstruction.pose_doubt import doubt, pose_errors

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def poses(count=6):
    """Cameras that look into a room from several places."""
    rng = np.random.default_rng(0)
    made = np.tile(np.eye(4), (count, 1, 1))
    made[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.4, (count, 3))).as_matrix()
    made[:, :3, 3] = rng.normal(0, 1, (count, 3))
    return made


def found(known, degrees=2.0, share=0.3):
    """What a network makes of it: another world and scale, and errors."""
    rng = np.random.default_rng(1)
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec([0.3, 1.0, -0.5]).as_matrix()
    made = world @ known
    turns = np.deg2rad(degrees) * rng.normal(size=(len(known), 3))
    made[:, :3, :3] = made[:, :3, :3] @ Rotation.from_rotvec(turns).as_matrix()
    made[:, :3, 3] = 0.1 * (made[:, :3, 3] + share * rng.normal(size=(len(known), 3)))
    return made


def test_neither_world_nor_scale_is_an_error():
    """Poses moved, turned and scaled together are the same; errors are measured."""
    known = poses()
    np.testing.assert_allclose(pose_errors(found(known, 0, 0), known), 0, atol=1e-5)
    turned_deg, astray = pose_errors(found(known, 5, 0.3), known)
    assert 3 < turned_deg < 15 and 0.1 < astray < 0.6


@pytest.mark.parametrize(
    ("mistaken", "told"),
    [
        (lambda known: known, ""),
        (lambda known: known @ OPENGL_FROM_OPENCV, "y and z of every camera reversed"),
        (np.linalg.inv, "matrices inverted"),
        (lambda known: known[[3, 0, 5, 1, 2, 4]], "are they of these photographs?"),
    ],
    ids=["right", "axes", "inverted", "other order"],
)
def test_the_likely_mistake_is_named(mistaken, told):
    """Of poses as they should be nothing is said."""
    known = poses()
    said = doubt(found(known), mistaken(known))
    assert told in said and bool(said) == bool(told)
