"""What every test runs under: eight host devices, no silent rank promotion, checked shapes.

Shapes in the signatures of the modules in ``CHECKED`` are verified at run time (jaxtyping with
beartype), so a test that passes has also proved its docstrings' shapes. Compiling is most of what
tests cost: programs are optimized less than a user's (also in child processes), except in modules
marked ``published``, which compare with published numbers.
"""

import logging
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

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

from mvdust3r_jax.reconstruction import machine  # noqa: E402
from mvdust3r_jax.storage import user_cache  # noqa: E402

# Tests run in float32 on every CPU.
machine.WORTH_BFLOAT16 = float("inf")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "float32")
# Modules forget their programs and several workers need the same ones: keep also the quick ones.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def key():
    """One fixed random key."""
    return jax.random.key(0)


@pytest.fixture(autouse=True)
def absl_level():
    """The command line quietens absl's logger for its process; not for the tests after it."""
    logger = logging.getLogger("absl")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def user_cache_off():
    """The command line switches the user's cache on for its process; not for the tests after it."""
    yield
    user_cache.switch_on(False)


@pytest.fixture(autouse=True, scope="module")
def programs(request):
    """How this module's programs are compiled; they are dropped when it is done.

    Together the programs of all modules would fill the memory.
    """
    published = request.node.get_closest_marker("published") is not None
    jax.config.update("jax_disable_most_optimizations", not published)
    yield
    jax.clear_caches()
