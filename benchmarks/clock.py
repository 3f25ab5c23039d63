"""Clocks: a compiled function's time, the rate of a plain matrix product, peak memory."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from mvdust3r_jax.models.mvdust3r import abstract_variables


def random_variables(config):
    """Small positive numbers of the right shapes, quickly: only speed is measured."""
    noise = 0.004 * np.random.default_rng(0).standard_normal(2**20).astype(np.float32) ** 2
    shapes = abstract_variables(config)
    return jax.tree.map(lambda s: jnp.asarray(np.resize(noise, s.shape)), shapes)


def clock(function, *args, repeat: int) -> dict:
    """Median wall seconds of a compiled function, and CPU seconds a core."""
    jax.block_until_ready(function(*args))
    wall, cpu = [], []
    for _ in range(repeat):
        start, start_cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(*args))
        wall.append(time.perf_counter() - start)
        cpu.append((time.process_time() - start_cpu) / os.cpu_count())
    return {"s": float(np.median(wall)), "cpu_s": float(np.median(cpu))}


def matmul_rate(dtype: str) -> dict:
    """Operations a second of a product of the decoder's MLP shape."""
    scale = 1 if jax.default_backend() == "cpu" else 8
    n, k, m = 3136 * scale, 768 * scale, 3072 * scale
    a, b = jnp.ones((n, k), dtype), jnp.ones((k, m), dtype)
    times = clock(jax.jit(lambda a, b: a @ b), a, b, repeat=15)
    return {key: 2 * n * k * m / value for key, value in times.items()}
