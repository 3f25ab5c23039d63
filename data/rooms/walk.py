"""Where a person walks and looks: camera paths in free space with overlapping views.

A path is a slightly bent line at eye height; the gaze follows a point that drifts through the
room, so that neighboring views share what they see. Several paths are drawn for a scene, those
that come near a surface are dropped, and of the rest the one with the best outlook is kept.
``baseline`` scales how far apart and how differently turned the views are (1 = a few steps).
``hand_held`` is the chance that the camera is not carried level at eye height but in a hand.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from data.rooms.carriage import LEVEL, carried
from data.rooms.draws import Draws
from data.rooms.primitives import SHELL, distance
from data.rooms.render import first_hit
from data.rooms.scene import Scene

CLEARANCE_M = 0.3
# Start points drawn, paths tried from the free ones, paths that are looked along.
STARTS, PATHS, FINALISTS = 192, 64, 6
PROBES = 6


def clearance(
    scene: Scene, points: Float[Array, "M 3"], over: bool | Bool[Array, ""] = False
) -> Float[Array, " M"]:
    """Distance in meters to the nearest surface (a lower bound), negative outside the shell.

    over: whether a camera may be held over furniture. Otherwise its floor area counts as well:
    nobody walks above a table.
    """
    shell = jnp.minimum(points, scene.size.reshape(1, 3) - points).min(axis=-1)
    rect = scene.furniture[None]
    outside = jnp.maximum(rect[..., :2] - points[:, None, :2], points[:, None, :2] - rect[..., 2:])
    beside = jnp.where(over, jnp.inf, outside.max(axis=-1).min(axis=-1) + 0.15)
    return jnp.minimum(jnp.minimum(shell, distance(scene.primitives, points)), beside)


def look_at(
    eye: Float[Array, "*batch 3"], target: Float[Array, "*batch 3"], roll: Float[Array, "*batch"]
) -> Float[Array, "*batch 4 4"]:
    """``world_from_cam`` of a camera that looks from ``eye`` to ``target``; z is up."""
    forward = target - eye
    forward = forward / jnp.sqrt((forward**2).sum(-1, keepdims=True) + 1e-12)
    right = jnp.stack([forward[..., 1], -forward[..., 0], jnp.zeros_like(roll)], axis=-1)
    right = right / jnp.sqrt((right**2).sum(-1, keepdims=True) + 1e-12)
    down = jnp.cross(forward, right)
    c, s = jnp.cos(roll)[..., None], jnp.sin(roll)[..., None]
    rotation = jnp.stack([c * right + s * down, c * down - s * right, forward], axis=-1)
    top = jnp.concatenate([rotation, eye[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0.0, 0, 0, 1]), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def _paths(draws, scene, starts, places, baseline, steps, carriage):
    """Poses ``[PATHS, S, 4, 4]`` at path positions ``places`` ``[S]`` in [-0.5, 0.5]."""
    n, s = len(starts), len(places)
    # Some paths hardly move, so that one fits into any room. Starts are sorted by clearance, and
    # the stride (prime to PATHS) gives good and bad ones paths of every length.
    shrink = 1.0 - 0.95 * ((jnp.arange(n) * 27) % n) / n
    length = draws.between(0.15, 0.5, n) * steps * baseline * shrink
    inside = draws.between(0.25, 0.75, n, 2)
    room = _room_of(scene, starts)
    goal = room[:, :2] + inside * (room[:, 2:] - room[:, :2])
    away = goal - starts[:, :2]
    far = jnp.sqrt((away**2).sum(-1, keepdims=True) + 1e-6)
    # The gazed point is neither too near nor too far, beyond or before the drawn one if need be.
    gaze = starts[:, :2] + away / far * jnp.clip(far, *carriage.away)
    ahead = jnp.arctan2(away[:, 1], away[:, 0])
    heading = ahead + draws.between(-1.0, 1.0, n) * jnp.pi
    line = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1)
    across = jnp.stack([-line[:, 1], line[:, 0]], axis=-1)
    bow = draws.between(-0.5, 0.5, n, 1, 1) * length.reshape(n, 1, 1)
    at = places.reshape(1, s, 1)
    wobble = draws.between(-0.06, 0.06, n, s, 3) * baseline
    flat = starts[:, None, :2] + line[:, None] * at * length.reshape(n, 1, 1)
    flat = flat + across[:, None] * (4 * at * at - 0.3) * bow
    eye = jnp.concatenate([flat, jnp.broadcast_to(starts[:, None, 2:], (n, s, 1))], -1) + wobble
    drift = draws.between(-1.0, 1.0, n, 1, 2) * 0.35 * steps * baseline
    seen = gaze[:, None] + drift * at + draws.between(-0.15, 0.15, n, s, 2) * baseline
    level = draws.between(*carriage.gaze, n, 1, 1) + draws.between(-0.12, 0.12, n, s, 1) * baseline
    roll = draws.between(-carriage.roll, carriage.roll, n, s)
    if carriage is not LEVEL:
        roll = roll + draws.between(-carriage.lean, carriage.lean, n, 1)
        climb = draws.between(-carriage.climb, carriage.climb, n, 1) * baseline
        eye = eye.at[..., 2].add(climb * at[..., 0])
    return look_at(eye, jnp.concatenate([seen, level], axis=-1), roll)


def _room_of(scene, points):
    """Rectangle of the room that each point stands in (the first one between rooms)."""
    xy = points[:, None, :2]
    inside = ((xy >= scene.rooms[None, :, :2]) & (xy <= scene.rooms[None, :, 2:])).all(-1)
    return scene.rooms[jnp.argmax(inside & scene.room_active[None], axis=-1)]


def _probe(scene, poses, intrinsics, height, width):
    """What a coarse pixel grid of each pose sees.

    Points ``[M, S, P, 3]``, depths and whether they lie on something in the room ``[M, S, P]``.
    """
    m, s = poses.shape[:2]
    u, v = jnp.meshgrid(
        (jnp.arange(PROBES) + 0.5) / PROBES * width, (jnp.arange(PROBES) + 0.5) / PROBES * height
    )
    x = ((u - intrinsics[0, 2]) / intrinsics[0, 0]).ravel()
    y = ((v - intrinsics[1, 2]) / intrinsics[1, 1]).ravel()
    camera = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    dirs = jnp.einsum("msij,pj->mspi", poses[..., :3, :3], camera)
    origin = poses[..., :3, 3]
    hits = first_hit(scene, origin.reshape(m * s, 3), dirs.reshape(m * s, -1, 3))
    depth, owner = (a.reshape(m, s, -1) for a in hits)
    return origin[:, :, None] + dirs * depth[..., None], depth, owner != SHELL


def shared(points, poses, intrinsics, height, width):
    """Which points ``[M, S, P, 3]`` lie in which view: ``[M, S, P, S]`` (occlusion is ignored)."""
    offset = points[:, :, :, None] - poses[:, None, None, :, :3, 3]
    local = jnp.einsum("mtij,msPti->msPtj", poses[..., :3, :3], offset)
    z = jnp.maximum(local[..., 2], 1e-3)
    u = local[..., 0] / z * intrinsics[0, 0] + intrinsics[0, 2]
    v = local[..., 1] / z * intrinsics[1, 1] + intrinsics[1, 2]
    inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    return inside & (local[..., 2] > 0.05)


def choose_poses(
    key: jax.Array,
    scene: Scene,
    num_inputs: int,
    num_targets: int,
    intrinsics: Float[Array, "3 3"],
    height: int,
    width: int,
    baseline: Float[Array, ""] | float,
    hand_held: float = 0.0,
) -> Float[Array, "S 4 4"]:
    """Camera poses of one sample: inputs in walking order, then targets between them."""
    draws = Draws(key, STARTS * 4 + num_targets + PATHS * (16 + 8 * (num_inputs + num_targets)))
    carriage = LEVEL  # without hands nothing is drawn for them: seeds keep their poses
    if hand_held:
        carriage = carried(jax.random.bernoulli(jax.random.fold_in(key, 1), hand_held))
    low = jnp.stack([CLEARANCE_M, CLEARANCE_M, carriage.eye[0]])
    high = jnp.stack([scene.size[0] - CLEARANCE_M, scene.size[1] - CLEARANCE_M, carriage.eye[1]])
    points = draws.between(low[None], high[None], STARTS, 3)
    rank = jnp.minimum(clearance(scene, points, carriage.over), 1.3 * CLEARANCE_M)
    starts = points[jnp.argsort(-rank + 1e-3 * draws.unit(STARTS))[:PATHS]]
    steps = max(num_inputs - 1, 1)
    inputs = jnp.arange(num_inputs) / steps - 0.5
    targets = draws.between(-0.5, 0.5, num_targets)
    places = jnp.concatenate([inputs, targets])
    poses = _paths(draws, scene, starts, places, baseline, steps, carriage)
    eyes = poses[..., :3, 3]
    free = clearance(scene, eyes.reshape(-1, 3), carriage.over).reshape(poses.shape[:2]).min(-1)
    # A path with enough clearance is as good as any other; longer ones come first.
    order = jnp.argsort(-jnp.minimum(free, CLEARANCE_M), stable=True)[:FINALISTS]
    poses, free = poses[order], free[order]
    seen, depth, things = _probe(scene, poses, intrinsics, height, width)
    outlook = jnp.median(depth, axis=-1).min(axis=-1)
    common = shared(seen, poses, intrinsics, height, width)
    chain = jnp.diagonal(common[:, 1:num_inputs, :, : num_inputs - 1], axis1=1, axis2=3)
    linked = chain.mean(axis=1).min(axis=-1) if num_inputs > 1 else jnp.ones(len(order))
    covered = common[:, num_inputs:, :, :num_inputs].any(-1).mean(-1)
    covered = covered.min(axis=-1) if num_targets else jnp.ones(len(order))
    score = jnp.minimum(outlook / carriage.outlook, 1.2)
    score = score + jnp.minimum(things.mean(axis=-1).min(axis=-1) / carriage.content, 1.0)
    score = score + jnp.minimum(linked / 0.5, 1.0) + 2 * jnp.minimum(covered / 0.95, 1.0)
    score = score + 100 * jnp.minimum(free / CLEARANCE_M, 1.0)
    return poses[jnp.argmax(score)]
