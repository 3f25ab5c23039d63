"""What every test runs under: eight host devices, no silent rank promotion, checked annotations.

Annotations of functions are verified at run time (jaxtyping with beartype) in the whole package and
in ``data``, so a test that passes has also proved the shapes in signatures. ``UNCHECKED`` says
which functions are left out and why. Child processes, fields of dataclasses and what has no
annotation are not checked.

Compiling is most of what tests cost: programs are optimized less than a user's, and XLA's older,
cheaper way of writing loops is taken (both also in child processes), except in modules marked
``published`` (`as_users_test`).
"""

import ast
import gc
import logging
import os
import threading

from tests.xla_flags import FUSION_EMITTERS_ONLY, xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", xla_flags(8))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Modules forget their programs, and several processes need the same ones: keep even those of single
# operations, which are most of what a test outside of jit costs.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Also in the processes that tests start, whose programs are then those of the tests.
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "float32"

import jax
import jaxtyping._import_hook
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir

_new_context, _of_thread = mlir.make_ir_context, threading.local()


def _kept_context():
    """The thread's own: to make one takes as long as all else before a small program's compiler."""
    if not hasattr(_of_thread, "context"):
        _of_thread.context = _new_context()
    return _of_thread.context


mlir.make_ir_context = _kept_context

# Until all tests are imported there is nothing to collect.
gc.disable()

UNCHECKED = {
    # These say themselves what is wrong with their arguments, which tests want to read.
    "MVDust3r.__call__",
    "Served.__call__",
    "fit_photo",
    "focal_from_pointmap",
    "poses_from_pointmaps",
    "psnr",
    "rasterize",
    "read_photo",
    "reconstruct",
    "ssim",
    "ssim_release",
    "with_mask",
    # beartype knows `Self` only in classes that it checks as a whole.
    "SceneArrays.load",
    "SceneArrays.recentered",
}


# ``Float``, ``Int``, ``Bool`` and their like, by name.
_ARRAY_TYPES = {
    name
    for name, kind in vars(jaxtyping).items()
    if isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractDtype)
}


class Checks(jaxtyping._import_hook.JaxtypingTransformer):
    """Checks functions and methods, but not the fields of dataclasses.

    Trees of arrays are rebuilt with whatever a function makes of their leaves: shapes, shardings.
    Functions inside of others would be prepared for it at every call: of them only those that name
    axes.
    """

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self._parents.append(node)
        self.generic_visit(node)
        self._parents.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        outer = [parent.name for parent in self._parents if isinstance(parent, ast.ClassDef)]
        inside = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        if ".".join([*outer, node.name]) in UNCHECKED or (inside and not _names_axes(node)):
            return node
        return super().visit_FunctionDef(node)


def _names_axes(node: ast.FunctionDef) -> bool:
    """Whether arguments or result are arrays like ``Float[Array, "H W 3"]``, or hold such."""
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    notes = [argument.annotation for argument in arguments if argument] + [node.returns]
    parts = (part for note in notes if note for part in ast.walk(note))
    subscripted = (part.value for part in parts if isinstance(part, ast.Subscript))
    return any(isinstance(kind, ast.Name) and kind.id in _ARRAY_TYPES for kind in subscripted)


jaxtyping._import_hook.JaxtypingTransformer = Checks
# Where a float is wanted, an int will do.
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
_hook = jaxtyping.install_import_hook(["mvdust3r_jax", "data"], _CHECKER)

from mvdust3r_jax.reconstruction import machine  # noqa: E402
from mvdust3r_jax.reconstruction import programs as kept_programs  # noqa: E402
from mvdust3r_jax.storage import user_cache  # noqa: E402

# Tests run in float32 on every CPU, and no program is compiled with more effort than said above.
machine.WORTH_BFLOAT16 = float("inf")
kept_programs._QUICK_OPTIONS = ()

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish():
    """What is imported stays: Python need not look through it again and again for garbage.

    Tracing makes many objects, so the rest is looked through less often than Python's defaults say.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


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
    with pytest.MonkeyPatch.context() as patch:
        if published:
            patch.setattr(compiler, "get_compile_options", _as_users)
        yield
    jax.clear_caches()


def _as_users(*args, _make=compiler.get_compile_options, **options):
    """What jax compiles with, but for the flag above."""
    made = _make(*args, **options)
    if not FUSION_EMITTERS_ONLY:
        made.env_option_overrides = [
            *made.env_option_overrides,
            ("xla_cpu_use_fusion_emitters", "True"),
        ]
    return made
