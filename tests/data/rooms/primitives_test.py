"""The ray caster against a marching oracle that only knows what lies inside a shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.rooms import primitives
from data.rooms.render import first_hit
from data.rooms.scene import make_scene
from mvdust3r_jax.geometry.transforms import rotation_from_axis_angle

INSIDE = {
    "box": lambda p: np.abs(p).max(-1) <= 1,
    "cylinder": lambda p: (np.hypot(p[..., 0], p[..., 1]) <= 1) & (np.abs(p[..., 2]) <= 1),
    "sphere": lambda p: (p**2).sum(-1) <= 1,
}
FIRST_SLOT = {
    "box": 0,
    "cylinder": primitives.NUM_BOXES,
    "sphere": primitives.NUM_BOXES + primitives.NUM_CYLINDERS,
}


def _affine(key):
    """A rotated, stretched and shifted unit shape."""
    k_turn, k_half, k_center = jax.random.split(key, 3)
    half = jax.random.uniform(k_half, (1, 3), minval=0.3, maxval=0.9)
    axes = rotation_from_axis_angle(jax.random.normal(k_turn, (3,))) * half
    center = jax.random.normal(k_center, (3, 1)) * 0.3
    return jnp.concatenate([axes, center], axis=1)


def _scene(matrices, slots):
    """Primitives with the given matrices in the given slots, nothing else."""
    forward = jnp.tile(jnp.eye(3, 4)[None], (primitives.NUM_PRIMITIVES, 1, 1))
    forward = forward.at[jnp.array(slots, int)].set(matrices)
    inverse = jnp.linalg.inv(forward[:, :, :3])
    shift = -jnp.einsum("nij,nj->ni", inverse, forward[:, :, 3])
    backward = jnp.concatenate([inverse, shift[..., None]], axis=-1)
    active = jnp.zeros(primitives.NUM_PRIMITIVES, bool).at[jnp.array(slots, int)].set(True)
    return primitives.Primitives(forward, backward, active, active)


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
def test_cast_finds_the_first_point_inside(shape, key):
    """Entry distances equal those of marching along the ray, for random affine shapes."""
    origin = np.array([3.0, -0.4, 0.5])
    dirs = np.asarray(jax.random.normal(key, (200, 3))) * [0.1, 0.15, 0.15] - [1, -0.1, 0.15]
    for seed in range(4):
        matrix = _affine(jax.random.key(seed))
        scene = _scene(matrix[None], [FIRST_SLOT[shape] + 2])
        t, owner = jax.jit(primitives.cast)(
            scene,
            jnp.array(origin[None], jnp.float32),
            jnp.array(dirs[None], jnp.float32),
            scene.active[None],
            jnp.full((1, 200), 50.0),
        )
        expected = _march(INSIDE[shape], matrix, origin, dirs)
        hit = np.asarray(owner[0]) == FIRST_SLOT[shape] + 2
        # Grazing rays may be decided either way in float32, and slip between marching steps.
        assert (hit == ~np.isnan(expected)).mean() > 0.98
        both = hit & ~np.isnan(expected)
        assert both.sum() > 20
        np.testing.assert_allclose(np.asarray(t[0])[both], expected[both], atol=2e-5)
        assert (np.asarray(t[0])[~hit] == 50.0).all()


def test_cast_keeps_the_nearest_of_several_shapes(key):
    """With one shape of each kind the nearest hit wins, whatever the order of the loops."""
    slots = [FIRST_SLOT[s] for s in INSIDE]
    matrices = jnp.stack([_affine(k) for k in jax.random.split(key, 3)])
    origin, dirs = jnp.array([[0.0, 3.5, 0.0]]), jax.random.normal(key, (1, 300, 3)) * 0.2
    dirs = dirs - jnp.array([0.0, 1.0, 0.0]).reshape(1, 1, 3)
    limit = jnp.full((1, 300), 50.0)
    alone = []
    for slot, matrix in zip(slots, matrices, strict=True):
        scene = _scene(matrix[None], [slot])
        alone.append(primitives.cast(scene, origin, dirs, scene.active[None], limit)[0])
    scene = _scene(matrices, slots)
    t, owner = primitives.cast(scene, origin, dirs, scene.active[None], limit)
    np.testing.assert_array_equal(t, jnp.stack(alone).min(axis=0))
    assert set(np.unique(owner)) == {primitives.SHELL, *slots}


def test_shell_exit_lies_on_the_shell(key):
    """Rays from inside end on a face of the box and do not leave it before."""
    lo, hi = jnp.zeros(3), jnp.array([4.0, 5.0, 2.5])
    origins = jnp.array([[1.0, 2.0, 1.4]])
    dirs = jax.random.normal(key, (1, 500, 3))
    t = primitives.shell_exit(lo, hi, origins, dirs)
    end = np.asarray(origins[:, None] + t[..., None] * dirs)
    gap = np.minimum(end, np.asarray(hi).reshape(1, 1, 3) - end)
    np.testing.assert_allclose(gap.min(-1), 0, atol=1e-5)
    assert (t > 0).all()


def test_small_and_far_spheres_keep_their_surface():
    """A 2 cm ball 8 m away is hit within 10 micrometers of where it is."""
    matrix = jnp.concatenate([0.02 * jnp.eye(3), jnp.array([[8.0], [0.1], [-0.2]])], axis=1)
    scene = _scene(matrix[None], [FIRST_SLOT["sphere"]])
    aim = np.array([[8.0, 0.1 + 0.012 * np.cos(a), -0.2 + 0.012 * np.sin(a)] for a in range(20)])
    t, _ = primitives.cast(
        scene,
        jnp.zeros((1, 3)),
        jnp.array(aim[None], jnp.float32),
        scene.active[None],
        jnp.full((1, 20), 50.0),
    )
    radius = np.linalg.norm(np.asarray(t[0])[:, None] * aim - [8.0, 0.1, -0.2], axis=-1)
    np.testing.assert_allclose(radius, 0.02, atol=1e-5)


def test_distance_is_exact_for_boxes_and_a_bound_for_others(key):
    """Sampled surface points of a shape are never nearer than the distance says."""
    matrix = _affine(key)
    cube = np.asarray(jax.random.uniform(key, (20000, 3), minval=-1.0))
    face = cube / np.abs(cube).max(-1, keepdims=True)
    ball = cube / np.linalg.norm(cube, axis=-1, keepdims=True)
    query = np.array([[2.5, 0.3, -0.4], [0.1, 2.2, 1.9], [-2.0, -1.0, 0.2]], np.float32)
    for shape, surface, slack in (("box", face, 0.05), ("sphere", ball, np.inf)):
        scene = _scene(matrix[None], [FIRST_SLOT[shape]])
        world = surface @ np.asarray(matrix[:, :3]).T + np.asarray(matrix[:, 3])
        nearest = np.linalg.norm(query[:, None] - world[None], axis=-1).min(axis=1)
        bound = np.asarray(primitives.distance(scene, jnp.array(query)))
        assert (bound <= nearest + 1e-5).all() and (bound > 0).all()
        assert (nearest - bound <= slack).all()


def test_visible_never_drops_a_hit(key):
    """Whatever a ray of a tile meets passes the tile's culling test."""
    slots = [FIRST_SLOT["box"] + i for i in range(30)]
    matrices = jax.vmap(_affine)(jax.random.split(key, 30))
    matrices = matrices.at[:, :, 3].multiply(6.0)
    scene = _scene(matrices, slots)
    # A pyramid around +x from the origin: |y| <= 0.3 x, |z| <= 0.3 x.
    normals = jnp.array([[0.3, 1, 0], [0.3, -1, 0], [0.3, 0, 1], [0.3, 0, -1]])
    planes = jnp.concatenate([normals, jnp.zeros((4, 1))], axis=1)[None]
    kept = primitives.visible(scene, planes)
    spread = jax.random.uniform(key, (1, 2000, 2), minval=-0.3, maxval=0.3)
    dirs = jnp.concatenate([jnp.ones((1, 2000, 1)), spread], axis=-1)
    origin, limit = jnp.zeros((1, 3)), jnp.full((1, 2000), 99.0)
    t_all, _ = primitives.cast(scene, origin, dirs, scene.active[None], limit)
    t_kept, _ = primitives.cast(scene, origin, dirs, kept, limit)
    np.testing.assert_array_equal(t_kept, t_all)
    assert kept.sum() < 30
    assert (t_all < 99).any()


def test_first_hit_takes_the_shell_where_nothing_stands():
    """Probes of an empty room measure the room."""

    shapes = jax.eval_shape(make_scene, jnp.uint32(0))
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes).replace(
        size=jnp.array([4.0, 5.0, 2.5]), primitives=_scene(jnp.zeros((0, 3, 4)), [])
    )
    dirs = jnp.array([[[1.0, 0, 0], [0, -1.0, 0], [0, 0, 2.0]]])
    t, _ = first_hit(empty, jnp.array([[1.0, 2.0, 1.5]]), dirs)
    np.testing.assert_allclose(t, [[3.0, 2.0, 0.5]], rtol=1e-6)
