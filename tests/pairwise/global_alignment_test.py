"""Scene graphs, the spanning-tree start and global alignment, on pairs made from known geometry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.chunked import map_in_chunks
from mvdust3r_jax.geometry import camera, transforms
from mvdust3r_jax.pairwise import network
from mvdust3r_jax.pairwise.alignment_start import (
    MEAN_SCALE,
    scene_graph,
    spanning_tree_start,
    spread_over_tree,
)
from mvdust3r_jax.pairwise.global_alignment import global_alignment
from tests.compiled import compiled, uniform
from tests.pinhole import pinhole
from tests.random_networks import random_variables

VIEWS, SIZE, FOCAL = 4, 16, 10.0
CENTER = 0.5 * (SIZE - 1)
PRINCIPAL_PX = jnp.asarray(np.full((VIEWS, 2), CENTER, np.float32))


@jax.jit
def _scene():
    """World points, poses and mask of four cameras before wavy walls; some pixels unknown."""
    keys = jax.random.split(jax.random.key(3), 3)
    turns = transforms.rotation_from_axis_angle(0.3 * jax.random.normal(keys[0], (VIEWS, 3)))
    world_from_cam = transforms.rigid(turns, jax.random.normal(keys[1], (VIEWS, 3)))
    u, v = jnp.moveaxis(camera.pixel_grid(SIZE, SIZE), -1, 0)
    phase = jnp.arange(VIEWS).reshape(-1, 1, 1)
    depth = 3 + jnp.sin(u[None] / 3 + phase) + 0.1 * v[None]
    intrinsics = jnp.asarray(pinhole(np.full(VIEWS, FOCAL), SIZE, SIZE))
    intrinsics = intrinsics.at[:, :2, 2].set(CENTER)
    points = camera.depth_to_world(depth, intrinsics, world_from_cam)
    return points, world_from_cam, jax.random.uniform(keys[2], depth.shape) < 0.9


@compiled
def _pairs(graph, noise=0.0):
    points, world_from_cam, valid = _scene()
    first, second = scene_graph(VIEWS, graph, window=1)
    scales = jnp.exp(0.3 * jax.random.normal(jax.random.key(4), (len(first),)))
    pairs = network.exact_pairs(points, world_from_cam, valid, first, second, scales)
    jitter = jax.random.normal(jax.random.key(5), pairs.points.shape)
    # What has no weight is rubbish, of every pair another one.
    noise = jnp.where(pairs.confidence[..., None] > 1, noise, 1.0)
    return pairs.replace(points=pairs.points + noise * jitter), world_from_cam


@compiled
def _pose_errors(aligned, world_from_cam):
    """Largest rotation error, and largest position error relative to the scene's spread."""
    truth = transforms.invert_rigid(world_from_cam[0])[None] @ world_from_cam
    angle = transforms.rotation_angle_deg(aligned.ref_from_cam[:, :3, :3], truth[:, :3, :3])
    found, wanted = aligned.ref_from_cam[:, :3, 3], truth[:, :3, 3]
    scale = jnp.sum(found * wanted) / jnp.sum(found**2)
    distance = jnp.linalg.norm(scale * found - wanted, axis=-1)
    return angle.max(), distance.max() / jnp.linalg.norm(jnp.std(_scene()[0], axis=(0, 1, 2)))


def test_scene_graphs():
    """Every graph joins all views and has both orders of its pairs: V (V - 1), a band, a star."""
    for graph, count in (("complete", 552), ("window", 2 * (23 + 22 + 21 + 20)), ("reference", 46)):
        first, second = scene_graph(24, graph)
        assert len(first) == count
        assert set(zip(first, second, strict=True)) == set(zip(second, first, strict=True))
        assert set(first) == set(range(24))
    with pytest.raises(ValueError, match="'tree'"):
        scene_graph(4, "tree")


def test_reference_graph_spreads_over_the_scene():
    """A star of exact pairs gives the scene up to one similarity, in the center's frame."""
    pairs, world_from_cam = _pairs("reference")
    world = jax.jit(spread_over_tree, static_argnums=1)(pairs, VIEWS)
    ref_from_world = compiled(transforms.invert_rigid)(np.asarray(world_from_cam)[0])
    points, _, valid = _scene()
    truth = np.asarray(compiled(transforms.transform_points)(ref_from_world, points))[valid]
    world = np.asarray(world)[valid]
    scale = np.linalg.norm(truth) / np.linalg.norm(world)
    # The root pair is one of the center's; in the other order its frame is the other view's.
    assert np.asarray(pairs.first)[0] == 0
    np.testing.assert_allclose(scale * world, truth, atol=1e-3)


def test_a_pair_without_weight_leaves_the_start_as_it_is():
    """It has no scale of its own and takes the mean of the others': all is finite."""
    pairs, _ = _pairs("complete")
    confidence = np.array(pairs.confidence)
    confidence[-1] = 1
    start = jax.jit(spanning_tree_start, static_argnums=1)(
        pairs.replace(confidence=confidence), VIEWS, PRINCIPAL_PX
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(start))
    np.testing.assert_allclose(start.pair_scale[-1], MEAN_SCALE, rtol=1e-5)
    np.testing.assert_allclose(np.log(start.pair_scale).mean(), np.log(MEAN_SCALE), atol=1e-5)


@pytest.mark.parametrize("graph, steps", [("complete", 0), ("complete", 300), ("window", 300)])
def test_exact_pairs_give_exact_poses(graph, steps):
    """From exact pairs of random scales the poses come back: the start, and after all steps."""
    pairs, world_from_cam = _pairs(graph)
    aligned = global_alignment(pairs, VIEWS, steps=steps, principal_px=PRINCIPAL_PX)
    angle, distance = _pose_errors(aligned, world_from_cam)
    assert angle < 0.1 and distance < 1e-3
    np.testing.assert_array_equal(aligned.confidence, np.where(_scene()[2], 10, 1))
    # Adam jitters about the minimum of a sum of distances, which is not smooth there.
    np.testing.assert_allclose(aligned.focal_px, FOCAL, rtol=3e-3)


def test_alignment_improves_a_noisy_start():
    """With noisy pairs the optimization lowers the loss and the largest rotation error."""
    pairs, world_from_cam = _pairs("complete", noise=0.1)
    start = global_alignment(pairs, VIEWS, steps=0, principal_px=PRINCIPAL_PX)
    aligned = global_alignment(pairs, VIEWS, steps=300, principal_px=PRINCIPAL_PX)
    assert aligned.losses[-1] < 0.9 * aligned.losses[0]
    before, after = _pose_errors(start, world_from_cam), _pose_errors(aligned, world_from_cam)
    assert after[0] < 0.8 * before[0]


def test_pairs_come_from_the_two_view_network():
    """Each pair is the network's answer to its two images alone, though images are encoded once."""
    config = VARIANTS["tiny"]
    images = uniform(0, 3, 16, 16, 3, low=-1.0)
    variables = random_variables(config)
    graph = scene_graph(3)
    predict = functools.partial(
        network.predict_pairs, first=graph[0], second=graph[1], config=config, pairs_at_once=4
    )
    pairs = jax.jit(predict)(variables, images)
    assert pairs.points.shape == (6, 2, 16, 16, 3)
    ends = np.asarray(images)[[graph[0][5], graph[1][5]]]
    alone = jax.jit(MVDust3r(config).apply)(variables, ends[None])
    pairs, alone = jax.device_get((pairs, alone))
    np.testing.assert_allclose(pairs.points[5], alone.points[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pairs.confidence[5], alone.confidence[0], rtol=1e-4)


@pytest.mark.parametrize("count, at_most, size", [(5, 8, 5), (9, 8, 5), (6, 3, 3), (7, 3, 3)])
def test_chunks_are_even(count, at_most, size):
    """Any number of rows comes back in order, in chunks no larger than asked for."""
    values = np.arange(count, dtype=np.float32)

    def squares(values):
        return map_in_chunks(lambda x: x * x, values, at_most)

    assert f"f32[{size}]" in str(jax.make_jaxpr(squares)(values))
    np.testing.assert_array_equal(squares(values), values**2)


def test_a_view_without_weight_costs_the_others_nothing():
    """Its lens is the others' median; their rotations are exact, and everything is finite."""
    pairs, world_from_cam = _pairs("complete")
    confidence = np.array(pairs.confidence)
    for end, views in enumerate((pairs.first, pairs.second)):
        confidence[np.asarray(views) == VIEWS - 1, end] = 1
    given = pairs.replace(confidence=confidence)
    aligned = global_alignment(given, VIEWS, steps=0, principal_px=PRINCIPAL_PX)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(aligned)))
    np.testing.assert_allclose(aligned.focal_px, FOCAL, rtol=3e-3)
    poses = np.asarray(world_from_cam, np.float64)
    true = np.linalg.inv(poses[0]) @ poses
    found = np.asarray(aligned.ref_from_cam)
    np.testing.assert_allclose(found[:-1, :3, :3], true[:-1, :3, :3], atol=2e-3)
