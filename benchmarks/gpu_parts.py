"""What `benchmarks.gpu` measures, part by part; each part is a generator of result rows.

A part runs in a process of its own, so that its peak memory is its own. A row is yielded as soon as
it is measured: a part that runs out of time or memory keeps the rows before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import splat
from benchmarks.clock import clock, matmul_rate, random_variables
from benchmarks.forward import compile_forward
from benchmarks.train import AsIfTrained, true_prediction
from configs import build
from data.box import box_views
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.chips import peak_flops
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.reconstruction.memory import peak_bytes
from mvdust3r_jax.splat import rasterize
from mvdust3r_jax.training.parallel import OneChip
from mvdust3r_jax.training.run import initial_state
from mvdust3r_jax.training.step import train_step
from mvdust3r_jax.weights import port
from tools.config_file import load_config

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is; ``FULL`` on a GPU, ``TINY`` where only the code is tried.

    networks: golden files of tests/golden/model, scenes: of tests/golden/raster. batches: of the
    training step, two from which the largest is estimated; at most ``most``. room: config of the
    last part, trained for ``room_s`` seconds.
    """

    networks: tuple[str, ...] = ("mvd_4views", "mvdp_5views_4refs", "mvdp_3views_2refs_sh1")
    scenes: tuple[str, ...] = ("s1_basic", "s3_sh2", "s4_hard_dense_tile", "s4_hard_ties_quats")
    variant: str = "mvdp"
    views: tuple[int, ...] = (4, 12, 24, 100)
    side: int = 224
    cameras: int = 10
    splat_views: int = 8
    config: str = "configs/mvdp_stage1.py"
    overrides: tuple[str, ...] = ()
    batches: tuple[int, int] = (1, 4)
    most: int = 256
    repeat: int = 5
    room: str = "configs/room_mvd.py"
    room_overrides: tuple[str, ...] = ()
    room_s: float = 180.0


FULL = Sizes()
TINY = Sizes(
    networks=("mvd_nogs_noskip_2views",),
    scenes=("s1_basic",),
    variant="tiny",
    views=(2,),
    side=32,
    cameras=2,
    splat_views=1,
    config="configs/tiny.py",
    overrides=("data.num_inputs=[2]", "data.height=16", "data.width=16")
    + ("data.num_targets=0", "num_refs=1"),
    batches=(1, 2),
    most=2,
    repeat=1,
    room="configs/tiny.py",
    room_overrides=("data.num_inputs=(2,)", "data.height=16", "data.width=16", "stop_step=8")
    + ("data.num_targets=0", "num_refs=1", "eval_every=0", "average_decay=0.9")
    + ("total_steps=100000", "warmup_steps=2"),
    room_s=300.0,
)


def share_of_peak(flops: float, seconds: float) -> float | None:
    """Share of the device's published bfloat16 peak, None where none is known."""
    peak = peak_flops(jax.devices()[0].device_kind)
    return flops / seconds / peak if peak else None


# --- Parity ---------------------------------------------------------------------------------------


def parity(sizes: Sizes) -> Iterator[dict]:
    """Errors against golden numbers, which were computed in float64 on a CPU.

    Relative to the largest entry: networks in float32 (products in float32 and as the device
    rounds by default) and in bfloat16; scenes of the rasterizer with their gradients.
    """
    from tests import golden_networks

    ways = (("float32", "float32"), ("float32", None), ("bfloat16", None))
    for name in sizes.networks:
        golden, state, config, images = golden_networks.load(name)
        for dtype, precision in ways:
            used = dataclasses.replace(config, dtype=dtype)
            with jax.default_matmul_precision(precision):
                error = _network_error(golden, state, used, images)
            yield {"what": name, "dtype": dtype, "products": precision or "default", **error}
    yield from _scene_errors(sizes)


def _network_error(golden: dict, state: dict, config, images) -> dict:
    from tests import golden_networks

    variables = port.torch_to_flax(state, config)
    refs = golden_networks.num_refs(golden)
    prediction = golden_networks.all_paths(config, variables, images, num_refs=refs)
    outputs = golden_networks.outputs(prediction, pair="cfg_nv" not in golden)
    errors = golden_networks.relative_errors(outputs, golden)
    return {"errors": {name: float(error) for name, error in errors}}


def _scene_errors(sizes: Sizes) -> Iterator[dict]:
    from benchmarks.splat_parity import errors
    from tests.splat.golden_test import SCENES

    for path in SCENES:
        if path.stem in sizes.scenes:
            with jax.default_matmul_precision("float32"):
                row = errors(path)
            yield {"what": row.pop("scene"), "dtype": "float32", "errors": row}


# --- Forward pass ---------------------------------------------------------------------------------


def forward(sizes: Sizes, views: int) -> Iterator[dict]:
    """The whole network in bfloat16: compile time, time, share of the peak, memory."""
    config = dataclasses.replace(VARIANTS[sizes.variant], dtype="bfloat16")
    num_refs = min(4, views)
    shape = {"views": views, "num_refs": num_refs, "height": sizes.side, "width": sizes.side}
    flops = forward_flops(config, **shape)["total"]
    variables = random_variables(config)
    images = jnp.zeros((1, views, sizes.side, sizes.side, 3))
    compile_s, run = compile_forward(MVDust3r(config), num_refs, variables, images)
    times = clock(run, variables, images, repeat=sizes.repeat)
    yield shape | {
        "compile_s": compile_s,
        "s": times["s"],
        "flops": flops,
        "of_peak": share_of_peak(flops, times["s"]),
        "of_matmul": flops / times["s"] / matmul_rate("bfloat16")["s"],
        "peak_bytes": peak_bytes(),
    }


# --- Rasterizer -----------------------------------------------------------------------------------


def rasterizer(sizes: Sizes) -> Iterator[dict]:
    """Forward and backward on a room seen by all cameras, beside gsplat's CUDA where it is there.

    Every pixel of ``splat_views`` pictures is a Gaussian: 401,408 at full size.
    """
    gaussians, viewmats, Ks, _ = splat.room(sizes.splat_views, sizes.cameras, sizes.side)

    def draw(*gaussians):
        side = sizes.side
        return rasterize(*gaussians, viewmats, Ks, side, side, **splat.OPTIONS)

    def loss(*gaussians):
        return jnp.mean(draw(*gaussians)[0] ** 2)

    (image, _, info), forward_s, _ = splat.timed(draw, *gaussians, runs=sizes.repeat)
    row = {
        "by": "this",
        "gaussians": len(gaussians[0]),
        "cameras": sizes.cameras,
        "side": sizes.side,
        "intersections": int(info.intersections.sum()),
        "overflow": int(info.overflow.sum()),
        "forward_s": forward_s,
        "forward_peak_bytes": peak_bytes(),
    }
    _, both_s, _ = splat.timed(jax.grad(loss, argnums=(0, 1, 2, 3)), *gaussians, runs=sizes.repeat)
    yield row | {"both_s": both_s, "peak_bytes": peak_bytes()}
    if importlib.util.find_spec("gsplat") is not None:
        yield {"by": "gsplat"} | _gsplat(sizes, gaussians, viewmats, Ks, np.asarray(image))


def _gsplat(sizes: Sizes, gaussians, viewmats, Ks, image: np.ndarray) -> dict:
    """The same by gsplat's CUDA kernels: times, and how far its picture is from ours."""
    import torch
    from gsplat import rasterization

    given = [torch.tensor(np.asarray(x), device="cuda") for x in (*gaussians, viewmats, Ks)]
    learned = [x.requires_grad_() for x in given[:4]]

    def draw():
        return rasterization(*learned, *given[4:], sizes.side, sizes.side, **splat.OPTIONS)[0]

    def both():
        (draw() ** 2).mean().backward()

    def seconds(function):
        function()
        times = []
        for _ in range(sizes.repeat):
            torch.cuda.synchronize()
            started = time.perf_counter()
            function()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return min(times)

    difference = np.abs(draw().detach().cpu().numpy() - image).max()
    return {"forward_s": seconds(draw), "both_s": seconds(both), "difference": float(difference)}


# --- Training step --------------------------------------------------------------------------------


def training_step(sizes: Sizes, remat: str) -> Iterator[dict]:
    """The real step at two batch sizes, then at the largest that should fit by their programs.

    The compiler's own account of both programs, on a line: arguments and temporaries.
    """
    config = load_config(ROOT / sizes.config, [*sizes.overrides, "accumulation=1"])
    config.remat = remat
    if config.loss.lpips and importlib.util.find_spec(lpips.PACKAGE) is None:
        config.loss.lpips = 0.0
    known = {}
    for batch in sizes.batches:
        row = _train_at(config, batch, sizes.repeat)
        known[batch] = row["program_bytes"]
        yield row
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 2**33)
    largest = min(largest_batch(known, limit), sizes.most)
    if largest > max(known):
        yield _train_at(config, largest, sizes.repeat) | {"largest_by_estimate": True}


def largest_batch(program_bytes: dict[int, int], limit: float) -> int:
    """The batch at which a line through two programs' bytes meets 95 % of the memory."""
    (small, low), (large, high) = sorted(program_bytes.items())
    slope = (high - low) / (large - small)
    return int(small + (0.95 * limit - low) / slope) if slope > 0 else large


def _train_at(config, size: int, repeat: int) -> dict:
    """One row: the step compiled for ``size`` samples, run on views from inside boxes."""
    network = OneChip().network(build.network(config))
    views = max(config.data.num_inputs)
    num_refs = min(config.num_refs, views)
    shape = views + config.data.num_targets, config.data.height, config.data.width
    batch = jax.device_put(box_views(np.random.default_rng(0), size, *shape))
    like = true_prediction(batch, num_refs, views, config.sh_degree)
    like = like if network.gaussians else like.replace(gaussians=None)
    variables = random_variables(network)
    recipe = build.recipe(config, AsIfTrained(MVDust3r(network), like), variables["params"])
    # Counters may be one array in several places, and given away each counts once.
    state = initial_state(recipe, variables, seed=0)
    state = jax.tree.map(lambda x: x if x.ndim else jnp.copy(x), state)
    del variables
    started = time.perf_counter()
    step = jax.jit(functools.partial(train_step, recipe=recipe), donate_argnums=0)
    compiled = step.lower(state, batch).compile()
    compile_s = time.perf_counter() - started
    memory = compiled.memory_analysis()
    held = [state]
    del state

    def once():
        held[0], metrics = compiled(held[0], batch)
        return metrics

    seconds = clock(once, repeat=repeat)["s"]
    shape = {"views": views, "num_refs": num_refs}
    sides = {"height": config.data.height, "width": config.data.width}
    flops = 3 * size * forward_flops(network, **shape, **sides, all_paths=True)["total"]
    return shape | {
        "variant": config.variant,
        "dtype": config.dtype,
        "remat": config.remat,
        "lpips": bool(config.loss.lpips),
        "batch": size,
        "compile_s": compile_s,
        "s": seconds,
        "samples_per_s": size / seconds,
        "mfu": share_of_peak(flops, seconds),
        "program_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "peak_bytes": peak_bytes(),
    }


# --- A run ----------------------------------------------------------------------------------------


def room_training(sizes: Sizes) -> Iterator[dict]:
    """``train.py`` on generated rooms for ``room_s`` seconds, as anyone would start it."""
    fields = [*sizes.room_overrides, "log_every=1", "tensorboard=False"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "--config", sizes.room, "--workdir", folder]
        command += [f"--config.{field}" for field in fields]
        with open(Path(folder) / "log.txt", "w") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(sizes.room_s)
            process.send_signal(signal.SIGTERM)
            code = process.wait(120)
        path = Path(folder) / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if not lines:
            raise RuntimeError((Path(folder) / "log.txt").read_text()[-2000:])
        yield {"config": sizes.room, "exit_code": code} | _told([json.loads(x) for x in lines])


def _told(records: list[dict]) -> dict:
    """Medians over the steps of a run, and its losses at the beginning and at the end."""
    train = [r for r in records if r["kind"] == "train"]
    if not train:
        raise RuntimeError("no step was finished in time")
    names = ("step_time_s", "examples_per_s", "input_wait_share")
    medians = {name: float(np.median([r[name] for r in train])) for name in names}
    losses = [float(r["loss"]) for r in train]
    tenth = max(len(losses) // 10, 1)
    return medians | {
        "steps": train[-1]["step"],
        "compilations": sum(r["kind"] == "compile" for r in records),
        "first_loss": float(np.mean(losses[:tenth])),
        "last_loss": float(np.mean(losses[-tenth:])),
    }


def parts(sizes: Sizes) -> dict[str, functools.partial]:
    """Name -> part, in the order in which they run: what is most worth knowing first."""
    found = {"parity": functools.partial(parity, sizes)}
    found |= {f"forward {v} views": functools.partial(forward, sizes, v) for v in sizes.views}
    found["rasterizer"] = functools.partial(rasterizer, sizes)
    found["training step, remat"] = functools.partial(training_step, sizes, "full")
    found["room training"] = functools.partial(room_training, sizes)
    found["training step"] = functools.partial(training_step, sizes, "")
    return found
