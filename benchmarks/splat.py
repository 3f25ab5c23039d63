"""Time, memory and intersections of the rasterizer on a pixel-aligned room.

    python -m benchmarks.splat                         # all rows, a process each, and the table
    python -m benchmarks.splat --rows 8x10x224 --network   # some rows: VIEWSxCAMERASxSIZE
    python -m benchmarks.splat --table                 # the table of what was measured so far
    python -m benchmarks.splat --picture docs/images   # a rendered room, its ground truth, errors

Each view of a box-shaped room with four blocks in it becomes 224x224 Gaussians on its surfaces, as
a trained network would place them: unit mean distance, scales uniform in [1e-4, 4e-3]. Times are
the best of three runs after compilation (one in the two largest rows), seconds of wall time (and of
CPU time, which says more on a shared machine). The stages are timed apart, one camera each. Rows
join those of earlier calls in the results. ``--network`` also times a full-size MV-DUSt3R forward
of the 8 views that 8x10x224 has as Gaussians.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import matmul_rate, random_variables
from benchmarks.machine import read_results, results_path, write_results
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.splat import rasterize
from mvdust3r_jax.splat.composite import CPU_SCHEDULE, WIDE_SCHEDULE, composite, composite_gradient
from mvdust3r_jax.splat.gaussians import gaussians_3d
from mvdust3r_jax.splat.project import Camera, View, footprint, project
from mvdust3r_jax.splat.rasterize import default_capacity
from mvdust3r_jax.splat.tiles import build_lists, depth_order

SOURCE = 224
ROWS = [(v, c, s) for s in (224, 512) for c in (1, 10) for v in (1, 4, 8, 24)]
# Rows beyond this product of views, cameras and size are timed once: they take half a minute.
LONG_ROW = 40_000
OPTIONS = dict(near_plane=0.01, far_plane=100.0, eps2d=0.1)
ROOM = np.array([-2, -1.2, -1, 2, 1.2, 4])
BLOCKS = np.array(
    [
        [-1, 0.3, 2.0, -0.2, 1.2, 2.8],
        [0.4, 0.5, 1.2, 1.1, 1.2, 2.0],
        [1.2, -0.4, 3.0, 1.7, 1.2, 3.5],
        [-1.8, -0.1, 0.8, -1.4, 1.2, 1.6],
    ]
)


def look_at(eye, target):
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    pose[:3, 3] = eye
    return pose


def surface_points(world_from_cam, intrinsics, size):
    """First hit of every pixel's ray, [size, size, 3]; pixel centers are integers."""
    u, v = np.meshgrid(np.arange(size), np.arange(size))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    rays = rays @ world_from_cam[:3, :3].T
    origin = world_from_cam[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(rays > 0, (ROOM[3:] - origin) / rays, (ROOM[:3] - origin) / rays).min(-1)
        for block in BLOCKS:
            low, high = (block[:3] - origin) / rays, (block[3:] - origin) / rays
            near = np.minimum(low, high).max(-1)
            far = np.maximum(low, high).min(-1)
            hit = np.where((near < far) & (near > 0) & (near < hit), near, hit)
    return origin + rays * hit[..., None]


def paint(points):
    """A color in [0, 1] for every point of a surface."""
    return 0.5 + 0.3 * np.sin(9 * points) + 0.2 * np.sign(np.sin(21 * points[..., ::-1]))


def room(views, cameras, size, seed=0):
    """(Gaussian arrays, viewmats, Ks, true images [C, size, size, 3]); camera i is view i."""
    rng = np.random.default_rng(seed)
    poses = [
        look_at(
            rng.uniform([-1.2, -0.5, -0.6], [1.2, 0.3, 0.6]),
            rng.uniform([-1.3, -0.3, 1.5], [1.3, 0.8, 3.5]),
        )
        for _ in range(max(views, cameras))
    ]
    focal = 0.9 * SOURCE
    source = np.array([[focal, 0, SOURCE / 2], [0, focal, SOURCE / 2], [0, 0, 1]])
    target = np.diag([size / SOURCE, size / SOURCE, 1]) @ source
    points = np.concatenate(
        [surface_points(p, source, SOURCE).reshape(-1, 3) for p in poses[:views]]
    )
    truth = np.stack([paint(surface_points(p, target, size)) for p in poses[:cameras]])
    colors = paint(points)
    scale = np.linalg.norm(points - poses[0][:3, 3], axis=1).mean()
    viewmats = np.stack([np.linalg.inv(p) for p in poses[:cameras]])
    viewmats[:, :3, 3] /= scale
    count = len(points)
    gaussians = (
        points / scale,
        rng.normal(size=(count, 4)),
        rng.uniform(1e-4, 4e-3, (count, 3)),
        rng.uniform(0.2, 0.95, count),
        colors,
    )
    Ks = np.tile(target + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], (cameras, 1, 1))
    arrays = [jnp.asarray(a, jnp.float32) for a in (*gaussians, viewmats, Ks)]
    return tuple(arrays[:5]), arrays[5], arrays[6], truth


def timed(function, *args, runs=3):
    """(result, best wall seconds, best CPU seconds) after compilation."""
    function = jax.jit(function)
    result = jax.block_until_ready(function(*args))
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(function(*args))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return result, min(walls), min(cpus)


def stages(gaussians, viewmats, Ks, size):
    """Milliseconds of CPU time of the stages for the first camera."""
    view = View(size, size, 0.01, 100.0, 0.1, None)
    schedule = CPU_SCHEDULE if jax.default_backend() == "cpu" else WIDE_SCHEDULE
    camera = Camera(viewmats[0], Ks[0])
    means, quats, scales, opacities, colors = gaussians
    world = jax.jit(gaussians_3d)(means, quats, scales, opacities, colors[:, None])
    capacity = default_capacity(len(means), size, size)

    def see(world, camera):
        shape = footprint(world, camera, view)
        return shape, project(world, camera, shape.radii > 0, view)

    (shape, splats), *projecting = timed(see, world, camera)
    _, *ordering = timed(depth_order, shape.depths)
    lists, *listing = timed(lambda s, f: build_lists(s, f, view, capacity), splats, shape)
    rows = jnp.stack([*splats.means, *splats.conics, splats.opacities, *splats.colors])
    # What compositing fetches, but all at once.
    used = lists.splats[: int(lists.total)]
    _, *gathering = timed(lambda rows, index: rows[:, index], rows, used)
    picture, *drawing = timed(lambda s, l: composite(s, l, view, schedule), splats, lists)
    cotangents = (picture.rgb, picture.transmittance)
    _, *pulling = timed(
        lambda s, l, p, c: composite_gradient(s, l, p, c, view, schedule),
        splats,
        lists,
        picture,
        cotangents,
    )
    names = ("project", "depth sort", "all sorting", "gather", "composite", "gradient")
    times = (projecting, ordering, listing, gathering, drawing, pulling)
    return {name: round(1e3 * t[1], 1) for name, t in zip(names, times, strict=True)}


def peak_gb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def row(views, cameras, size):
    """Measure one row of the table."""
    gaussians, viewmats, Ks, _ = room(views, cameras, size)
    before = peak_gb()

    def draw(*gaussians):
        return rasterize(*gaussians, viewmats, Ks, size, size, **OPTIONS)

    def loss(*gaussians):
        return jnp.mean(draw(*gaussians)[0] ** 2)

    runs = 1 if views * cameras * size > LONG_ROW else 3
    (_, _, info), *forward = timed(draw, *gaussians, runs=runs)
    after_forward = peak_gb()
    _, *both = timed(jax.grad(loss, argnums=(0, 1, 2, 3)), *gaussians, runs=runs)
    after_both = peak_gb()
    return dict(
        gaussians=views * SOURCE**2,
        cameras=cameras,
        size=size,
        intersections=int(info.intersections.sum()),
        overflow=int(info.overflow.sum()),
        contributors_per_pixel=round(float(info.contributors.mean()), 1),
        forward_s=forward[0],
        forward_cpu_s=forward[1],
        both_s=both[0],
        both_cpu_s=both[1],
        start_gb=before,
        forward_peak_gb=after_forward,
        both_peak_gb=after_both,
        stages_cpu_ms=stages(gaussians, viewmats, Ks, size),
    )


def network():
    """A full-size MV-DUSt3R forward of 8 views, one reference, random weights, float32."""
    config = VARIANTS["mvd"]
    variables = random_variables(config)
    model = MVDust3r(config)
    images = jnp.zeros((1, 8, SOURCE, SOURCE, 3))
    rates = [matmul_rate("float32")]
    forward = jax.jit(lambda variables, images: model.apply(variables, images))
    _, wall, cpu = timed(forward, variables, images)
    rates.append(matmul_rate("float32"))
    return dict(forward_s=wall, forward_cpu_s=cpu, matmul_flop_per_s=max(r["s"] for r in rates))


def table(results):
    rows = results["rows"]
    head = ["Gaussians", "cameras", "size", "intersections", "forward s (CPU)", "fwd+bwd s (CPU)"]
    head += ["CPU us / intersection", "peak GB"]
    cells = [
        (
            f"{r['gaussians']:,}", r["cameras"], r["size"], f"{r['intersections']:,}",
            f"{r['forward_s']:.2f} ({r['forward_cpu_s']:.2f})",
            f"{r['both_s']:.2f} ({r['both_cpu_s']:.2f})",
            f"{1e6 * r['both_cpu_s'] / r['intersections']:.2f}", f"{r['both_peak_gb']:.2f}",
        )
        for r in rows
    ]  # fmt: skip
    print(tables.table(head, cells) + "\n")
    stages = [
        (f"{r['gaussians']:,}", r["size"], *r["stages_cpu_ms"].values())
        for r in rows
        if r["cameras"] == 1
    ]
    print(tables.table(["Gaussians", "size", *rows[0]["stages_cpu_ms"]], stages))
    if results["network"]:
        net = results["network"]
        wall, cpu = (
            net["splat"][k] / (3 * net[f"forward{k[4:]}"]) for k in ("both_s", "both_cpu_s")
        )
        print(
            f"\nnetwork forward {net['forward_s']:.1f} s ({net['forward_cpu_s']:.1f} CPU): the "
            f"rasterizer takes {wall:.0%} ({cpu:.0%} CPU) of three times that"
        )


def picture(folder):
    """Render a view that no Gaussian was made from, beside the truth and the oracle's errors."""
    from PIL import Image

    from mvdust3r_jax.splat.reference import rasterize_reference

    size = SOURCE
    gaussians, viewmats, Ks, truth = room(8, 9, size)
    means, quats, _, opacities, colors = gaussians
    # As wide as the pixel that it came from: what a network learns to choose.
    by_view = means.reshape(8, -1, 3)
    depth = jnp.einsum("vgi,vi->vg", by_view, viewmats[:8, 2, :3]) + viewmats[:8, 2, 3:]
    width = jnp.clip(0.6 * depth.reshape(-1, 1) / Ks[0, 0, 0], 1e-4, 4e-3)
    scales = jnp.broadcast_to(width, means.shape)
    solid = (means, quats, scales, jnp.full_like(opacities, 0.9), colors)
    unseen = slice(8, 9)
    image, alpha, info = rasterize(*solid, viewmats[unseen], Ks[unseen], size, size, **OPTIONS)
    assert int(info.overflow.sum()) == 0
    # The oracle tries every Gaussian at every pixel: a smaller picture, and every 40th Gaussian.
    few = tuple(a[::40] for a in (means, quats, 6 * scales, opacities, colors))
    small = (viewmats[unseen], Ks[unseen].at[:, :2].multiply(0.5), size // 2, size // 2)
    fast, expected = (
        rasterize(*few, *small, **OPTIONS)[0],
        rasterize_reference(*few, *small, **OPTIONS)[0],
    )
    error = np.abs(np.asarray(fast - expected)[0]).max(-1)
    print(f"largest difference from the oracle {error.max():.1e}")
    exponent = np.clip((np.log10(np.maximum(error, 1e-9)) + 9) / 9, 0, 1)
    parts = [
        np.asarray(image[0]),
        truth[8],
        np.kron(exponent, np.ones((2, 2)))[..., None].repeat(3, -1),
    ]
    strip = np.concatenate([np.clip(p, 0, 1) for p in parts], axis=1)
    path = pathlib.Path(folder) / "splat_room.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * strip).astype(np.uint8)).save(path)
    covered = np.asarray(alpha[0, ..., 0]) > 0.99
    error = ((np.asarray(image[0]) - truth[8]) ** 2)[covered].mean()
    print(f"{path}: PSNR {-10 * np.log10(error):.1f} dB on the {covered.mean():.0%} covered pixels")


def in_own_process(*arguments):
    """What this module prints last when it is called with these arguments."""
    command = [sys.executable, "-m", "benchmarks.splat", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add_row(results, measured):
    """``measured`` in its place in the table, instead of an earlier one of the same size."""

    def name(row):
        return row["size"], row["cameras"], row["gaussians"]

    rows = [r for r in results["rows"] if name(r) != name(measured)] + [measured]
    results["rows"] = sorted(rows, key=name)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", help="rows of the table, as VIEWSxCAMERASxSIZE")
    parser.add_argument("--network", action="store_true", help="the network, beside row 8x10x224")
    parser.add_argument("--table", action="store_true", help="print what was measured; run nothing")
    parser.add_argument("--picture", metavar="FOLDER")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.picture:
        return picture(args.picture)
    if args.one:
        measured = network() if args.one == "network" else row(*map(int, args.one.split("x")))
        return print(json.dumps(measured))
    wanted = [f"{v}x{c}x{s}" for v, c, s in ROWS] if args.rows is None else args.rows
    results = dict(network={}, rows=[])
    if results_path("splat").exists():
        results = read_results("splat")
    for name in () if args.table else wanted:
        measured = in_own_process("--one", name)
        add_row(results, measured)
        if args.network and name == "8x10x224":
            splat = {k: measured[k] for k in ("both_s", "both_cpu_s")}
            results["network"] = in_own_process("--one", "network") | dict(splat=splat)
        write_results("splat", results)
    table(results)


if __name__ == "__main__":
    main()
