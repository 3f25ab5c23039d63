"""What one training step costs, part by part, against the machine's matmul rate.

    python -m benchmarks.train                                    # MV-DUSt3R at 224x224
    python -m benchmarks.train --config configs/small_render.py --views 4 --per_device 4
    python -m benchmarks.train --per_device 8 --repeat 10 dtype=bfloat16   # on a GPU

One device, the real step of ``train.py`` on rooms with random weights, whose predictions are drawn
to the truth. The parts are timed apart,
forward and backward: encoder and decoder on their own; heads are the whole network less these two;
the rasterizer on true pointmaps, every pixel a Gaussian of middle size; LPIPS on the same images;
the update. ``rest`` is what the step takes beyond them. Utilization: three forward passes by the
closed formula (nothing recomputed, no rasterizer, no LPIPS) over the step's time and the rate of a
plain matrix product of the same run. Input wait: share of a loop over fresh batches made in the
background.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.clock import clock, matmul_rate, random_variables
from benchmarks.machine import write_results
from configs import build
from data.device_prefetch import DevicePrefetch
from data.rooms.stream import RoomsSource
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.geometry.truth import true_pointmaps
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.decoder import decoder_of
from mvdust3r_jax.models.encoder import encoder_of
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.reconstruction.memory import peak_bytes
from mvdust3r_jax.training.losses import pool_of
from mvdust3r_jax.training.parallel import OneChip
from mvdust3r_jax.training.render_loss import SCENE_TERMS, render_terms
from mvdust3r_jax.training.run import initial_state
from mvdust3r_jax.training.step import train_step
from mvdust3r_jax.types import Batch, Gaussians, Prediction
from tools.config_file import load_config

MIDDLE_SCALE, MIDDLE_OPACITY = 2e-3, 0.5


def rooms(config, size: int, views: int) -> RoomsSource:
    """Endless batches of ``size`` samples of ``views`` inputs and the config's targets."""
    return RoomsSource(
        batch_size=size,
        num_inputs=(views,),
        num_targets=config.data.num_targets,
        height=config.data.height,
        width=config.data.width,
        seed=0,
    )


def true_prediction(batch: Batch, num_refs: int, views: int, sh_degree: int) -> Prediction:
    """The truth as a network would predict it, with Gaussians of middle size."""
    points = true_pointmaps(batch, num_refs)[:, :, :views]
    shape = points.shape[:-1]
    scale = MIDDLE_SCALE * jnp.linalg.norm(points, axis=-1).mean()
    return Prediction(
        points=points,
        confidence=jnp.ones(shape),
        gaussians=Gaussians(
            colors=jnp.zeros((*shape, 3 * (sh_degree + 1) ** 2)),
            opacities=jnp.full(shape, MIDDLE_OPACITY),
            scales=jnp.full((*shape, 3), scale),
            rotations=jnp.broadcast_to(jnp.array([1.0, 0, 0, 0]), (*shape, 4)),
        ),
    )


class AsIfTrained:
    """The network with predictions drawn to the truth: random ones pile all Gaussians on one spot.

    Every sample gets the truth of ``like``'s; gradients flow as in the network, a thousandth.
    """

    def __init__(self, model: MVDust3r, like: Prediction):
        self.config, self._model, self._like = model.config, model, like

    def apply(self, *args, **kwargs):
        """As of a flax module whose batch statistics are mutable."""
        prediction, updated = self._model.apply(*args, **kwargs)
        return jax.tree.map(lambda p, t: t + 1e-3 * p, prediction, self._like), updated


def network_parts(network, params, batch_stats, images, num_refs: int, timed) -> dict:
    """Gradient of encoder, of decoder, and of all the rest of the network."""
    grid = images.shape[2] // network.patch, images.shape[3] // network.patch
    encoder, decoder = encoder_of(network), decoder_of(network)
    tokens = jnp.zeros((*images.shape[:2], grid[0] * grid[1], network.enc_dim))

    def encode(p):
        return encoder.apply({"params": p}, images).sum()

    def decode(p, tokens):
        return decoder.apply({"params": p}, tokens, grid, num_refs, True)[0].sum()

    def predict(p):
        variables = {"params": p, "batch_stats": batch_stats}
        prediction, _ = MVDust3r(network).apply(
            variables, images, num_refs, all_paths=True, train=True, mutable=["batch_stats"]
        )
        return sum(x.sum() for x in jax.tree.leaves(prediction))

    parts = {
        "encoder": timed(jax.jit(jax.grad(encode)), params["encoder"]),
        "decoder": timed(jax.jit(jax.grad(decode, argnums=(0, 1))), params["decoder"], tokens),
    }
    whole = timed(jax.jit(jax.grad(predict)), params)
    both = parts["encoder"], parts["decoder"]
    return parts | {"heads": {k: whole[k] - sum(p[k] for p in both) for k in whole}}


def render_parts(objective, batch: Batch, views: int, perceptual, timed) -> dict:
    """Gradient of the rendered terms without LPIPS, and of LPIPS."""
    if not any(name in objective.weights for name in SCENE_TERMS):
        return {}
    num_refs = min(objective.num_refs, views)
    prediction = true_prediction(batch, num_refs, views, objective.sh_degree)

    def rendered(prediction):
        pool = pool_of(batch, views, num_refs)
        return render_terms(plain, prediction, batch, jax.random.key(0), pool=pool)[0]

    weights = {name: weight for name, weight in objective.weights.items() if name != "lpips"}
    plain = dataclasses.replace(objective, weights=weights)
    parts = {"rasterizer": timed(jax.jit(jax.grad(rendered)), prediction)}
    if "lpips" in objective.weights and perceptual is not None:
        paths = objective.render_paths or num_refs
        images = jnp.tile(batch.images[:, : objective.render_views or None], (paths, 1, 1, 1, 1))
        images = images.reshape(-1, *images.shape[2:])

        def perceived(x):
            one = jax.checkpoint(lambda pair: lpips.distance(perceptual, *(p[None] for p in pair)))
            return jax.lax.map(one, (x, images)).sum()

        parts["lpips"] = timed(jax.jit(jax.grad(perceived)), images + 0.1)
    return parts


def real_step(config, views: int, per_device: int) -> Callable[[], dict]:
    """A call makes one compiled step on the same batch, as in `measure`; returns its metrics."""
    recipe, variables, batch = prepared(config, views, per_device)[:3]
    state = initial_state(recipe, variables, seed=0)
    step = jax.jit(functools.partial(train_step, recipe=recipe), donate_argnums=0)
    compiled, held = step.lower(state, batch).compile(), [state]

    def once() -> dict:
        held[0], metrics = compiled(held[0], batch)
        return metrics

    return once


def prepared(config, views: int, per_device: int):
    """(recipe, variables, batch, a part of it for one gradient, source) of a step to measure."""
    network = OneChip().network(build.network(config))
    variables = random_variables(network)
    source = rooms(config, per_device, views)
    batch = jax.device_put(next(source)[0])
    micro = jax.tree.map(lambda x: x[: per_device // config.accumulation], batch)
    like = true_prediction(micro, min(config.num_refs, views), views, config.sh_degree)
    like = like if network.gaussians else like.replace(gaussians=None)
    model = AsIfTrained(MVDust3r(network), like)
    recipe = build.recipe(config, model, variables["params"])
    return recipe, variables, batch, micro, source


def measure(config, views: int, per_device: int, repeat: int) -> dict:
    """All numbers of one configuration on the first device."""
    recipe, variables, batch, micro, source = prepared(config, views, per_device)
    network, num_refs = OneChip().network(build.network(config)), min(config.num_refs, views)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    timed = functools.partial(clock, repeat=repeat)
    rates = [matmul_rate(config.dtype)]

    parts = network_parts(network, params, batch_stats, micro.images[:, :views], num_refs, timed)
    parts |= render_parts(recipe.objective, micro, views, recipe.perceptual, timed)
    parts = {n: {k: v * config.accumulation for k, v in p.items()} for n, p in parts.items()}

    optimizer, step = recipe.optimizer, functools.partial(train_step, recipe=recipe)
    state = initial_state(recipe, variables, seed=0)
    del variables

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state):
        updates, opt_state = optimizer.update(params, opt_state, params)
        return jax.tree.map(jnp.add, params, updates), opt_state

    held = [(state.params, state.opt_state)]
    counters = jax.tree.map(jnp.copy, state.replace(params={}, opt_state=()))
    del state, params

    def update_once():
        held[0] = update(*held[0])
        return held[0]

    parts["optimizer"] = timed(update_once)
    state = counters.replace(params=held[0][0], opt_state=held[0][1])

    started = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    compile_s = time.perf_counter() - started
    held[0] = state
    del state

    def step_once(batch):
        held[0], metrics = compiled(held[0], batch)
        return metrics

    times = timed(step_once, batch)
    peak = peak_bytes()
    waited, total = input_wait(source, step_once, repeat)
    rates.append(matmul_rate(config.dtype))
    rate = {key: max(r[key] for r in rates) for key in rates[0]}
    forward = forward_flops(
        network,
        views=views,
        num_refs=num_refs,
        height=config.data.height,
        width=config.data.width,
        all_paths=True,
    )
    flops = 3 * per_device * forward["total"]
    known = {key: sum(part[key] for part in parts.values()) for key in times}
    return {
        "variant": config.variant,
        "dtype": config.dtype,
        "remat": config.remat,
        "views": views,
        "targets": config.data.num_targets,
        "num_refs": num_refs,
        "batch": per_device,
        "accumulation": config.accumulation,
        "compile_s": compile_s,
        "step": times,
        "parts": parts | {"rest": {key: times[key] - known[key] for key in times}},
        "model_flops": flops,
        "matmul_rate": rate,
        "utilization": {key: flops / times[key] / rate[key] for key in times},
        "input_wait_share": waited / total,
        "peak_bytes": peak,
    }


def input_wait(source: RoomsSource, step, repeat: int) -> tuple[float, float]:
    """Seconds waited for batches and seconds in all, over ``repeat`` steps after a first one."""
    batches = DevicePrefetch(source)
    jax.block_until_ready(step(next(batches)[0]))
    waited, begun = 0.0, time.perf_counter()
    for _ in range(repeat):
        started = time.perf_counter()
        batch, _ = next(batches)
        waited += time.perf_counter() - started
        jax.block_until_ready(step(batch))
    return waited, time.perf_counter() - begun


def table(row: dict) -> str:
    """Parts with their shares, as Markdown."""
    step = row["step"]
    lines = [tables.head(("part", "s", "CPU s a core", "share"))]
    for name, part in [*row["parts"].items(), ("whole step", step)]:
        share = part["cpu_s"] / step["cpu_s"] if jax.default_backend() == "cpu" else 0
        share = share or part["s"] / step["s"]
        cells = (name, f"{part['s']:.3g}", f"{part['cpu_s']:.3g}", f"{share:.0%}")
        lines.append(tables.row(cells))
    lines.append("")
    lines.append(
        f"utilization {row['utilization']['s']:.0%} (of CPU time {row['utilization']['cpu_s']:.0%})"
        f" of {row['matmul_rate']['s'] / 1e12:.3g} TFLOP/s, input wait "
        f"{row['input_wait_share']:.1%}, compile {row['compile_s']:.0f} s, "
        f"peak {row['peak_bytes'] / 1e9:.1f} GB"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/mvd.py")
    parser.add_argument("--views", type=int, help="input views; default: the config's largest")
    parser.add_argument("--per_device", type=int, default=1, help="samples a step")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--name", help="of the results file; default: train_VARIANT")
    parser.add_argument("overrides", nargs="*", help="config fields: dtype=float32 loss.lpips=0")
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)
    config.accumulation = min(config.accumulation, args.per_device)
    build.check(config)
    jax.config.update("jax_enable_compilation_cache", False)
    views = args.views or max(config.data.num_inputs)
    row = measure(config, views, args.per_device, args.repeat)
    print(table(row))
    write_results(args.name or f"train_{config.variant}", row)


if __name__ == "__main__":
    main()
