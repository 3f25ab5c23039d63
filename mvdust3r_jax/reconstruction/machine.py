"""What this machine is and can do: its processor, and measured rates, kept in the user's cache."""

from __future__ import annotations

import functools
import json
import math
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mvdust3r_jax import allotted
from mvdust3r_jax.storage import user_cache

_KIND = "machine"
# Features of processors that decide how fast which type of numbers is.
TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
# Of those, the ones without which bfloat16 is not even tried.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
# bfloat16 is taken on a CPU whose products in it are at least this many times as fast; where they
# are 1.8 times as fast (AMD EPYC with avx512_bf16), a whole pass is 1.0 to 1.2 times.
WORTH_BFLOAT16 = 2.5


def processor() -> dict[str, str]:
    """Facts of the first processor, as Linux names them; few where the system tells no more."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {"model name": platform.processor(), "machine": platform.machine()}
    named = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): text.strip() for name, _, text in named}


def features() -> list[str]:
    """Those of `TELLING` that this processor has."""
    facts = processor()
    held = (facts.get("flags", "") + " " + facts.get("Features", "")).split()
    return [name for name in TELLING if name in held]


@functools.cache
def machine_key() -> str:
    """Of the processor's model and features, which machine code depends on."""
    facts = processor()
    wanted = ("vendor_id", "cpu family", "model", "model name", "machine", "flags", "Features")
    return user_cache.key_of(*(facts.get(name) for name in wanted))[:12]


def default_dtype() -> str:
    """The type of matrix products: bfloat16, on CPUs only where measured to be worth its error."""
    if jax.default_backend() != "cpu":
        return "bfloat16"
    if not _BFLOAT16 & set(features()):
        return "float32"
    ratio = flops_per_second("bfloat16") / flops_per_second("float32")
    return "bfloat16" if ratio >= WORTH_BFLOAT16 else "float32"


@functools.cache
def flops_per_second(dtype: str = "float32") -> float:
    """Rate of a matrix product on the default device; measured once where programs are kept."""
    device = jax.devices()[0].device_kind
    key = user_cache.key_of(machine_key(), allotted.cores(), device, jax.__version__, dtype)
    try:
        kept = float(json.loads(user_cache.read(_KIND, key) or b""))
        if 0 < kept < math.inf:
            return kept
    except (ValueError, TypeError):
        pass
    rate = measured_flops_per_second(dtype)
    user_cache.write(_KIND, key, json.dumps(rate).encode())
    return rate


def measured_flops_per_second(dtype: str = "float32", size: int = 1024) -> float:
    """The same, measured now in a few hundredths of a second."""
    x = jnp.ones((size, size), dtype)
    product = jax.jit(_product)
    product(x).block_until_ready()
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - begin)
    # The shortest: other programs can only make it longer.
    return 2 * size**3 / min(times)


def _product(x: Array) -> Array:
    """As dense layers ask for it (`models.linear.token_product`)."""
    return jnp.matmul(x, x, preferred_element_type=jnp.float32).astype(x.dtype)
