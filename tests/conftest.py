"""What every test runs under: eight host devices, no silent rank promotion, checked shapes.

Shapes in the signatures of the modules in ``CHECKED`` are verified at run time (jaxtyping with
beartype), so a test that passes has also proved its docstrings' shapes.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest
from jaxtyping import install_import_hook

CHECKED = [
    "mvdust3r_jax.geometry",
    "mvdust3r_jax.models.attention",
    "mvdust3r_jax.models.rope",
    "mvdust3r_jax.models.winograd",
]
_hook = install_import_hook(CHECKED, "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "float32")
# Modules forget their programs and several workers need the same ones: keep also the quick ones.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def key():
    """One fixed random key."""
    return jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs of a finished module are dropped: together they would fill the memory."""
    yield
    jax.clear_caches()
