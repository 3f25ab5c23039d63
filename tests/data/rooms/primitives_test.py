"""The ray caster against a marching oracle that only knows what lies inside a shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.rooms import primitives
from data.rooms.render import first_hit
from data.rooms.scene import make_scene
from mvdust3r_jax.geometry.transforms import rotation_from_axis_angle
from tests.compiled import Compiled, compiled, normal, uniform

primitives = Compiled(primitives)
INSIDE = {
    "box": lambda p: np.abs(p).max(-1) <= 1,
    "cylinder": lambda p: (np.hypot(p[..., 0], p[..., 1]) <= 1) & (np.abs(p[..., 2]) <= 1),
    "sphere": lambda p: (p**2).sum(-1) <= 1,
}
NUM_PRIMITIVES = primitives.NUM_BOXES + primitives.NUM_CYLINDERS + primitives.NUM_SPHERES
FIRST_SLOT = {
    "box": 0,
    "cylinder": primitives.NUM_BOXES,
    "sphere": primitives.NUM_BOXES + primitives.NUM_CYLINDERS,
}


def _affine(seed):
    """A rotated, stretched and shifted unit shape."""
    turn = np.asarray(compiled(rotation_from_axis_angle)(normal(seed, 3)))
    axes = turn * np.asarray(uniform(seed, 1, 3, low=0.3, high=0.9))
    return np.concatenate([axes, 0.3 * np.asarray(normal(seed + 100, 3, 1))], axis=1)


def _scene(matrices, slots):
    """Primitives with the given matrices in the given slots, nothing else."""
    forward = np.tile(np.eye(3, 4), (NUM_PRIMITIVES, 1, 1))
    active = np.zeros(NUM_PRIMITIVES, bool)
    if slots:
        forward[slots], active[slots] = matrices, True
    inverse = np.linalg.inv(forward[:, :, :3])
    shift = -np.einsum("nij,nj->ni", inverse, forward[:, :, 3])
    backward = np.concatenate([inverse, shift[..., None]], axis=-1)
    given = np.float32(forward), np.float32(backward), active, active
    return primitives.Primitives(*map(jnp.asarray, given))


def _march(inside, matrix, origin, dirs, far=8.0, steps=2000):
    """First t at which a ray is inside, by small steps and bisection; NaN where it never is."""
    matrix = np.asarray(matrix, np.float64)
    inverse = np.linalg.inv(matrix[:, :3])

    def local(t):
        return (origin + t[..., None] * dirs - matrix[:, 3]) @ inverse.T

    grid = np.linspace(0, far, steps)[:, None]
    hit = inside(local(np.broadcast_to(grid, (steps, len(dirs)))))
    first = hit.argmax(axis=0)
    low, high = grid[np.maximum(first - 1, 0), 0], grid[first, 0]
    for _ in range(40):
        middle = (low + high) / 2
        within = inside(local(middle))
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    return np.where(hit.any(axis=0), high, np.nan)


@pytest.mark.parametrize("shape", INSIDE)
def test_cast_finds_the_first_point_inside(shape):
    """Entry distances equal those of marching along the ray, for random affine shapes."""
    origin = np.array([3.0, -0.4, 0.5])
    dirs = np.asarray(normal(0, 200, 3)) * [0.1, 0.15, 0.15] - [1, -0.1, 0.15]
    for seed in range(4):
        matrix = _affine(seed)
        scene = _scene(matrix[None], [FIRST_SLOT[shape] + 2])
        t, owner = primitives.cast(
            scene,
            np.float32(origin[None]),
            np.float32(dirs[None]),
            np.asarray(scene.active)[None],
            np.full((1, 200), 50, np.float32),
        )
        expected = _march(INSIDE[shape], matrix, origin, dirs)
        hit = np.asarray(owner[0]) == FIRST_SLOT[shape] + 2
        # Grazing rays may be decided either way in float32, and slip between marching steps.
        assert (hit == ~np.isnan(expected)).mean() > 0.98
        both = hit & ~np.isnan(expected)
        assert both.sum() > 20
        np.testing.assert_allclose(np.asarray(t[0])[both], expected[both], atol=2e-5)
        assert (np.asarray(t[0])[~hit] == 50.0).all()


def test_cast_keeps_the_nearest_of_several_shapes():
    """With one shape of each kind the nearest hit wins, whatever the order of the loops."""
    slots = [FIRST_SLOT[s] for s in INSIDE]
    matrices = np.stack([_affine(seed) for seed in range(3)])
    origin = np.float32([[0, 3.5, 0]])
    dirs = 0.2 * np.asarray(normal(0, 1, 300, 3)) - np.float32([0, 1, 0])
    limit = np.full((1, 300), 50, np.float32)
    alone = []
    for slot, matrix in zip(slots, matrices, strict=True):
        scene = _scene(matrix[None], [slot])
        active = np.asarray(scene.active)[None]
        alone.append(primitives.cast(scene, origin, dirs, active, limit)[0])
    scene = _scene(matrices, slots)
    t, owner = primitives.cast(scene, origin, dirs, np.asarray(scene.active)[None], limit)
    np.testing.assert_array_equal(t, np.min(alone, axis=0))
    assert set(np.unique(owner)) == {primitives.SHELL, *slots}


def test_shell_exit_lies_on_the_shell():
    """Rays from inside end on a face of the box and do not leave it before."""
    lo, hi = np.zeros(3, np.float32), np.float32([4.0, 5.0, 2.5])
    origins, dirs = np.float32([[1.0, 2.0, 1.4]]), np.asarray(normal(0, 1, 500, 3))
    t = np.asarray(primitives.shell_exit(lo, hi, origins, dirs))
    end = origins[:, None] + t[..., None] * dirs
    gap = np.minimum(end, hi - end)
    np.testing.assert_allclose(gap.min(-1), 0, atol=1e-5)
    assert (t > 0).all()


def test_small_and_far_spheres_keep_their_surface():
    """A 2 cm ball 8 m away is hit within 10 micrometers of where it is."""
    matrix = np.concatenate([0.02 * np.eye(3), [[8.0], [0.1], [-0.2]]], axis=1)
    scene = _scene(matrix[None], [FIRST_SLOT["sphere"]])
    aim = np.array([[8.0, 0.1 + 0.012 * np.cos(a), -0.2 + 0.012 * np.sin(a)] for a in range(20)])
    t, _ = primitives.cast(
        scene,
        np.zeros((1, 3), np.float32),
        np.float32(aim[None]),
        np.asarray(scene.active)[None],
        np.full((1, 20), 50, np.float32),
    )
    radius = np.linalg.norm(np.asarray(t[0])[:, None] * aim - [8.0, 0.1, -0.2], axis=-1)
    np.testing.assert_allclose(radius, 0.02, atol=1e-5)


def test_distance_is_exact_for_boxes_and_a_bound_for_others():
    """Sampled surface points of a shape are never nearer than the distance says."""
    matrix = _affine(0)
    cube = np.asarray(uniform(0, 20000, 3, low=-1.0))
    face = cube / np.abs(cube).max(-1, keepdims=True)
    ball = cube / np.linalg.norm(cube, axis=-1, keepdims=True)
    query = np.array([[2.5, 0.3, -0.4], [0.1, 2.2, 1.9], [-2.0, -1.0, 0.2]], np.float32)
    for shape, surface, slack in (("box", face, 0.05), ("sphere", ball, np.inf)):
        scene = _scene(matrix[None], [FIRST_SLOT[shape]])
        world = surface @ matrix[:, :3].T + matrix[:, 3]
        nearest = np.linalg.norm(query[:, None] - world[None], axis=-1).min(axis=1)
        bound = np.asarray(primitives.distance(scene, query))
        assert (bound <= nearest + 1e-5).all() and (bound > 0).all()
        assert (nearest - bound <= slack).all()


def test_visible_never_drops_a_hit():
    """Whatever a ray of a tile meets passes the tile's culling test."""
    slots = [FIRST_SLOT["box"] + i for i in range(30)]
    matrices = np.stack([_affine(seed) for seed in range(30)])
    matrices[:, :, 3] *= 6.0
    scene = _scene(matrices, slots)
    # A pyramid around +x from the origin: |y| <= 0.3 x, |z| <= 0.3 x.
    planes = np.float32([[0.3, 1, 0, 0], [0.3, -1, 0, 0], [0.3, 0, 1, 0], [0.3, 0, -1, 0]])[None]
    kept = primitives.visible(scene, planes)
    spread = np.asarray(uniform(0, 1, 2000, 2, low=-0.3, high=0.3))
    dirs = np.concatenate([np.ones((1, 2000, 1), np.float32), spread], axis=-1)
    origin, limit = np.zeros((1, 3), np.float32), np.full((1, 2000), 99, np.float32)
    t_all, _ = primitives.cast(scene, origin, dirs, np.asarray(scene.active)[None], limit)
    t_kept, _ = primitives.cast(scene, origin, dirs, kept, limit)
    np.testing.assert_array_equal(t_kept, t_all)
    assert np.sum(kept) < 30
    assert np.any(np.asarray(t_all) < 99)


def test_first_hit_takes_the_shell_where_nothing_stands():
    """Probes of an empty room measure the room."""

    shapes = jax.eval_shape(make_scene, jnp.uint32(0))
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes).replace(
        size=np.float32([4.0, 5.0, 2.5]), primitives=_scene([], [])
    )
    dirs = np.float32([[[1, 0, 0], [0, -1, 0], [0, 0, 2]]])
    t, _ = compiled(first_hit)(empty, np.float32([[1, 2, 1.5]]), dirs)
    np.testing.assert_allclose(t, [[3.0, 2.0, 0.5]], rtol=1e-6)
