"""Generated rooms: reproducible, geometrically exact, seen by cameras that stand in free space."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import rooms
from data.rooms import catalog, layout, primitives, walk
from data.rooms.draws import Draws
from data.rooms.light import light_maps
from data.rooms.render import first_hit
from data.rooms.sample import scene_intrinsics
from data.rooms.scene import DEFAULT_OPTIONS, ROOMS_VERSION, SPLITS, hash_version
from data.rooms.sheet import normals_from_depth
from mvdust3r_jax.geometry.camera import depth_to_world, project, unproject
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from tests.compiled import compiled

SEEDS = np.arange(12, dtype=np.uint32)
INPUTS, TARGETS, SIZE = 4, 2, 48


@functools.cache
def _batch():
    return jax.device_get(rooms.sample_batch(SEEDS, INPUTS, TARGETS, SIZE, SIZE))


_make_scenes = jax.jit(jax.vmap(rooms.make_scene))


@functools.cache
def _scenes():
    return jax.device_get(_make_scenes(SEEDS))


@compiled
def _carried(batch):
    """Depth of view i carried into view j, and view j's own depth there, ``[B, S, S, H, W]``.

    Depth between pixels is interpolated as 1/z, which is linear on planes.
    """
    points = depth_to_world(batch.depth_m, batch.intrinsics, batch.world_from_cam)
    cam_from_world = invert_rigid(batch.world_from_cam)

    def into(points_i, to_cam, k, depth_j):
        local = transform_points(to_cam, points_i)
        uv = project(local, k)
        low = jnp.clip(jnp.floor(uv), 0, SIZE - 2).astype(jnp.int32)
        u, v = low[..., 0], low[..., 1]
        fu, fv = uv[..., 0] - u, uv[..., 1] - v
        inverse = 1 / depth_j
        top = inverse[v, u] * (1 - fu) + inverse[v, u + 1] * fu
        bottom = inverse[v + 1, u] * (1 - fu) + inverse[v + 1, u + 1] * fu
        inside = (uv >= 0).all(-1) & (uv <= SIZE - 1).all(-1) & (local[..., 2] > 0.05)
        return local[..., 2], 1 / (top * (1 - fv) + bottom * fv), inside

    over_j = jax.vmap(into, (None, 0, 0, 0))
    over_i = jax.vmap(over_j, (0, None, None, None))
    return jax.vmap(over_i)(points, cam_from_world, batch.intrinsics, batch.depth_m)


def test_same_seeds_same_bytes():
    """A seed gives the same sample again, also at another place of the batch."""
    first = _batch()
    again = rooms.sample_batch(SEEDS[::-1].copy(), INPUTS, TARGETS, SIZE, SIZE)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b)[::-1].tobytes()


def test_seeds_differ():
    """No two seeds give the same picture."""
    pictures = {np.asarray(image).tobytes() for image in _batch().images[:, 0]}
    assert len(pictures) == len(SEEDS)


def test_splits_are_disjoint_ranges_of_seeds():
    """No seed belongs to two splits, and all fit into 32 bits."""
    ranges = sorted(SPLITS.values())
    assert all(low < high for low, high in ranges)
    assert all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:], strict=False))
    assert ranges[0][0] >= 0 and ranges[-1][1] <= 2**32


def test_versions_have_keys_of_their_own():
    """Another version is another key."""
    numbers = {hash_version(v) for v in (ROOMS_VERSION, "1.0.0", "1.0.1", "9.9.9")}
    assert len(numbers) >= 3


def test_sizes_and_ranges():
    """Shapes, value ranges and rigid poses are those that ``Batch`` promises."""
    batch, total = _batch(), INPUTS + TARGETS
    assert batch.images.shape == (len(SEEDS), total, SIZE, SIZE, 3)
    assert batch.images.dtype == batch.depth_m.dtype == jnp.float32
    assert np.abs(batch.images).max() <= 1 and (np.asarray(batch.depth_m) > 0).all()
    rotation = np.asarray(batch.world_from_cam[..., :3, :3])
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, -1, -2), np.broadcast_to(np.eye(3), rotation.shape),
        atol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    fov = 2 * np.rad2deg(np.arctan(0.5 * SIZE / np.asarray(batch.intrinsics[:, 0, 0, 0])))
    assert fov.min() > 49.9 and fov.max() < 80.1


def test_unproject_then_project_returns_the_pixel():
    """Stored depth and intrinsics agree with the project's camera model."""
    batch = _batch()
    points = compiled(unproject)(batch.depth_m, batch.intrinsics)
    uv = compiled(project)(points, batch.intrinsics)
    expected = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1)
    np.testing.assert_allclose(uv, np.broadcast_to(expected, uv.shape), atol=1e-3)


def test_depth_agrees_between_views():
    """Depth carried into another view equals its depth where both see the surface."""
    carried, own, inside = (np.asarray(a) for a in _carried(_batch()))
    gap = np.abs(carried - own)
    seen = inside & (gap < 0.02)
    seen[:, np.arange(INPUTS + TARGETS), np.arange(INPUTS + TARGETS)] = False
    assert seen.mean() > 0.3
    assert np.median(gap[seen]) < 1e-4


def test_render_only_views_are_covered():
    """On average more than 90 % of a target's surface is seen by an input view."""
    carried, own, inside = (np.asarray(a) for a in _carried(_batch()))
    # Coarse pixels mix depths at edges, hence 10 cm.
    seen = (inside & (np.abs(carried - own) < 0.1))[:, INPUTS:, :INPUTS].any(axis=2)
    share = seen.mean(axis=(2, 3))
    assert share.mean() > 0.9 and share.min() > 0.6


def test_neighboring_views_overlap():
    """Consecutive inputs share at least a quarter of what they see, most half."""
    carried, own, inside = (np.asarray(a) for a in _carried(_batch()))
    seen = (inside & (np.abs(carried - own) < 0.1)).mean(axis=(3, 4))
    chain = np.stack([seen[:, i, i + 1] for i in range(INPUTS - 1)], axis=1)
    assert chain.min() > 0.25 and np.median(chain) > 0.5


def test_baseline_scales_the_distance_between_views():
    """A smaller baseline moves and turns the cameras less."""
    scene = jax.tree.map(lambda x: x[0], _scenes())
    k = scene_intrinsics(scene, SIZE, SIZE)

    @jax.jit
    def spread(baseline):
        room, intrinsics = jax.device_put((scene, k))
        size = intrinsics, SIZE, SIZE
        poses = walk.choose_poses(jax.random.key(1), room, 4, 1, *size, baseline)
        return jnp.abs(jnp.diff(poses[:4, :3, 3], axis=0)).sum()

    assert spread(0.2) < 0.7 * spread(1.0)


def test_cameras_stand_in_free_space():
    """At eye height, 0.3 m from every surface, inside the shell, with an open view."""
    batch, scenes = _batch(), _scenes()
    eyes = batch.world_from_cam[..., :3, 3]
    free = np.asarray(jax.jit(jax.vmap(walk.clearance))(scenes, eyes))
    # Eyes sway by a few centimeters around the height of the path.
    assert eyes[..., 2].min() > 1.1 and eyes[..., 2].max() < 1.9
    assert free.min() >= walk.CLEARANCE_M - 1e-3
    # A view may pass close to a wall, but none looks at a blank one nearby.
    median = np.median(np.asarray(batch.depth_m).reshape(*eyes.shape[:2], -1), axis=-1)
    assert median.min() > 0.8 and np.median(median) > 1.5


def test_cameras_in_a_hand_tilt_roll_and_stoop_in_free_space():
    """They look further down, roll further and go lower than level ones, as clear of surfaces."""
    options = rooms.options_from({"hand_held": 1.0})
    held = jax.device_get(rooms.sample_batch(SEEDS, INPUTS, TARGETS, SIZE, SIZE, options=options))
    clear = jax.jit(jax.vmap(walk.clearance, in_axes=(0, 0, None)))
    free, beside = (clear(_scenes(), held.world_from_cam[..., :3, 3], o) for o in (True, False))
    assert np.min(free) >= walk.CLEARANCE_M - 1e-3
    assert np.min(beside) < 0  # some are held over furniture

    def habits(batch):
        right, _, forward = np.moveaxis(batch.world_from_cam[..., 2, :3], -1, 0)
        eyes = batch.world_from_cam[..., 2, 3]
        lean, climb = np.abs(right.mean(axis=1)), np.ptp(eyes[:, :INPUTS], axis=1)
        return -forward.mean(), lean.mean(), eyes.min(), climb.mean()

    (down, lean, eye, climb), level = habits(held), habits(_batch())
    assert down > level[0] + 0.1 and lean > 5 * level[1] and eye < level[2] - 0.1
    assert climb > 1.5 * level[3]


def test_half_of_the_walks_are_hand_held():
    """The others are those of level cameras: nothing else of a seed changes."""
    options = rooms.options_from({"hand_held": 0.5})
    mixed = jax.device_get(rooms.sample_batch(SEEDS, INPUTS, TARGETS, SIZE, SIZE, options=options))
    same = np.isclose(mixed.world_from_cam, _batch().world_from_cam, atol=1e-5).all((1, 2, 3))
    assert 0 < same.sum() < len(SEEDS)


def test_normals_are_those_of_the_depth():
    """Normals from differences of points match the analytic ones on smooth surfaces."""
    batch, scenes = _batch(), _scenes()
    first = jax.tree.map(lambda x: x[0], scenes)
    views = jax.jit(rooms.render, static_argnums=(3, 4))(
        first, batch.world_from_cam[0], batch.intrinsics[0], SIZE, SIZE
    )
    normals = np.asarray(views.normals)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    by_depth = normals_from_depth(jax.tree.map(lambda x: jnp.asarray(x[:1]), batch))
    # Differences across an edge have no normal; most pixels are on faces.
    assert ((np.asarray(by_depth)[0] * normals).sum(-1) > 0.999).mean() > 0.6
    points = compiled(depth_to_world)(
        batch.depth_m[0], batch.intrinsics[0], batch.world_from_cam[0]
    )
    toward = batch.world_from_cam[0, :, None, None, :3, 3] - np.asarray(points)
    assert ((normals * toward).sum(-1) > -1e-4).all()


def test_culled_depth_equals_depth_without_culling():
    """Tiles lose nothing: the rendered depth is that of testing every primitive."""
    batch, scenes = _batch(), _scenes()
    camera = compiled(unproject)(np.ones_like(batch.depth_m), batch.intrinsics)
    dirs = np.einsum("bsij,bshwj->bshwi", batch.world_from_cam[..., :3, :3], camera)
    depth, _ = jax.jit(jax.vmap(first_hit))(
        scenes, batch.world_from_cam[..., :3, 3], dirs.reshape(*dirs.shape[:2], -1, 3)
    )
    gap = np.abs(np.asarray(depth).reshape(batch.depth_m.shape) - np.asarray(batch.depth_m))
    # A pixel on a silhouette may fall to either side by rounding.
    assert np.quantile(gap, 0.999) < 1e-4


def test_every_view_has_texture_to_match():
    """Neighboring pixels differ in most 6x6 patches of every view."""
    images = np.asarray(_batch().images)
    step = np.abs(np.diff(images, axis=3)).max(axis=-1)[..., : SIZE - 6]
    patches = step.reshape(*step.shape[:2], SIZE // 6, 6, -1, 6).max(axis=(3, 5))
    share = (patches > 0.02).mean(axis=(2, 3))
    assert share.min() > 0.2 and share.mean() > 0.6


def _has_free_slots(active):
    """Whether every room leaves a slot of each shape unused; active: ``[rooms, slots]``."""
    slots = (primitives.NUM_BOXES, primitives.NUM_CYLINDERS, primitives.NUM_SPHERES)
    parts = np.split(active, np.cumsum(slots)[:-1], axis=1)
    return all((part.sum(axis=1) < part.shape[1]).all() for part in parts)


def test_nothing_is_dropped_from_the_slots():
    """Rooms leave some slot of each shape free, so no part was lost when packing."""
    # In groups as large as the other tests' batch, so that one program serves all.
    groups = [_make_scenes(SEEDS + np.uint32(200 + 12 * i)) for i in range(20)]
    assert _has_free_slots(np.concatenate([np.asarray(g.primitives.active) for g in groups]))


@pytest.mark.parametrize("fitted", [0.0, 0.5, 1.0])
def test_fitted_furniture_is_in_as_many_rooms_as_asked_for(fitted):
    """Every second piece on floors and walls of these rooms, none in others."""
    options = dataclasses.replace(DEFAULT_OPTIONS, fitted=fitted, multi_room=0.0)

    def kinds(key):
        draws = Draws(key, 8_192)
        plan = layout.make_plan(draws, options)
        on_floor = layout.place_floor(draws, plan, -jnp.ones(4), options)
        return on_floor.kind, layout.place_hung(draws, plan, options).kind

    rooms_of = jax.jit(jax.vmap(kinds))(jax.random.split(jax.random.key(0), 256))
    fitted_on_floor, fitted_hung = (catalog.piece_tables().fitted[np.asarray(k)] for k in rooms_of)
    have = fitted_on_floor.any(axis=1)
    assert abs(have.mean() - fitted) < 0.1
    np.testing.assert_array_equal(have, fitted_hung.any(axis=1))
    if fitted:
        assert abs(fitted_on_floor[have].mean() - 0.5) < 0.05
        assert abs(fitted_hung[have].mean() - 0.5) < 0.05


def test_full_fitted_kitchens_fit_into_the_slots():
    """All parts of 256 rooms, as full as training draws any, find a slot."""
    options = rooms.options_from({"fitted": 1.0, "density": (1.1, 1.1)})
    make = jax.jit(jax.vmap(lambda seed: rooms.make_scene(seed, options).primitives.active))
    assert _has_free_slots(np.asarray(make(np.arange(256, dtype=np.uint32))))


@pytest.mark.parametrize("several", [False, True])
def test_options_choose_the_number_of_rooms(several):
    """Single rooms keep to the size range; several rooms lie side by side without overlap."""
    options = dataclasses.replace(DEFAULT_OPTIONS, multi_room=float(several), room_max=6.0)
    make = jax.jit(jax.vmap(lambda key: layout.make_plan(Draws(key, 32), options)))
    plans = make(jax.random.split(jax.random.key(0), 64))
    count = np.asarray(plans.room_active).sum(axis=1)
    size, rects = np.asarray(plans.size), np.asarray(plans.rooms)
    if not several:
        assert (count == 1).all()
        assert size[:, :2].min() >= 3.0 and size[:, :2].max() <= 6.0
        return
    assert set(count) == {2, 3}
    assert (rects[:, 0, 2] < rects[:, 1, 0]).all()
    three = count == 3
    assert (rects[three, 1, 3] < rects[three, 2, 1]).all()
    # Every room is wide enough to stand in.
    extent = (rects[..., 2:] - rects[..., :2]).min(axis=-1)
    assert extent[np.asarray(plans.room_active)].min() > 2.0


def test_dark_rooms_have_less_light():
    """The option scales lamps and ambient light, exposure only partly makes up for it."""
    dim = jax.jit(lambda s: rooms.make_scene(s, dataclasses.replace(DEFAULT_OPTIONS, dark=0.1)))(0)
    normal = jax.tree.map(lambda x: x[0], _scenes())
    np.testing.assert_allclose(dim.light_color, 0.1 * normal.light_color, rtol=1e-5)
    np.testing.assert_allclose(dim.ambient, 0.1 * normal.ambient, rtol=1e-5)
    # The same geometry from two programs: their last digits may differ.
    places = [scene.primitives.world_from_local for scene in (dim, normal)]
    np.testing.assert_allclose(*places, rtol=0, atol=1e-5)


def test_shadow_maps_see_the_floor_or_furniture():
    """Distances of what a lamp sees lie within the room's diagonal, and it does see something."""
    scene = jax.tree.map(lambda x: x[0], _scenes())
    maps = jax.jit(lambda s: light_maps(s, 32))(scene)
    seen = np.asarray(maps.first) >= 0
    assert seen[0].any()
    assert np.asarray(maps.distance_m)[seen].max() < 1.05 * np.linalg.norm(scene.size)
    assert np.asarray(maps.height_m).max() <= float(scene.size[2]) + 0.2


def test_wrong_counts_are_named():
    """Errors quote what was given."""
    with pytest.raises(ValueError, match="got 0, 1"):
        rooms.sample_batch(SEEDS, 0, 1, SIZE, SIZE)
