"""Programs traced and compiled once on a machine, whatever process asks for them.

Tracing a network takes longer than running a small one. So the traced program (StableHLO, by
`jax.export`) is kept in the user's cache under a key of all that it depends on, and the machine
code in JAX's own compilation cache: a second process imports no network and traces nothing. Both
are off in a library until `keep_programs`; the command line calls it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jaxlib
from jax import export as jax_export
from jax._src.export import _export

from mvdust3r_jax.reconstruction.machine import machine_key
from mvdust3r_jax.storage import user_cache

# Of the user's cache: traced programs, and JAX's compiled ones (one folder a kind of processor).
TRACED, COMPILED = "programs", "xla"
# Compiled programs that were not used for longest are removed above this.
MAX_COMPILED_BYTES = 1 << 30
# Quicker compilations than this are not kept, seconds.
_WORTH_KEEPING_S = 0.2
# Rooms and modules of the package that take part in what programs are traced from.
_TRACED_FROM = (
    *("models", "cameras", "geometry", "splat", "reconstruction"),
    *("chunked.py", "products.py", "pytrees.py", "types.py"),
)
# Of XLA on CPUs, for programs that run for tenths of a second: its older way of writing loops and
# less of LLVM's work compile these in two thirds of the time, and they run as fast. Larger networks
# run half as long again with it. Where XLA has no older way any more, less of LLVM's work alone.
_LESS_OF_LLVM = {"xla_backend_optimization_level": 1}
_QUICK_OPTIONS = (_LESS_OF_LLVM | {"xla_cpu_use_fusion_emitters": False}, _LESS_OF_LLVM)
_QUICK_BELOW_FLOPS = 5e10
# Settings of JAX that change what is traced.
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")

Program = Callable[..., dict[str, Any]]


class Leaf(NamedTuple):
    """Shape and type of an array, to be compared and hashed."""

    shape: tuple[int, ...]
    dtype: str


def keep_programs(say: Callable[[str], None] = lambda text: None) -> None:
    """From now on, programs and what was measured of this machine are kept in the user's cache.

    JAX's own setting of a compilation cache (``$JAX_COMPILATION_CACHE_DIR``) stays where it is set.
    say: is told where programs are kept the first time, or why they are not.
    """
    user_cache.switch_on()
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        place = user_cache.base_folder()
    except RuntimeError as error:
        say(f"compiled programs are not kept: {error} ($XDG_CACHE_HOME names a place for them)")
        return
    new = not os.path.exists(place / COMPILED)
    # Machine code of another processor, in a home that several machines share, is not ours.
    folder = user_cache.safe_folder(f"{COMPILED}/{machine_key()}")
    if folder is None:
        say(
            f"compiled programs are not kept: {place} cannot be made, or others "
            "may write there (chmod -R go-w mends that)"
        )
        return
    if new:
        say(f"compiled programs are kept in {folder.parent} ($JAX_COMPILATION_CACHE_DIR moves it)")
    user_cache.shrink(folder, MAX_COMPILED_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_S)


@functools.lru_cache(maxsize=32)
def program(
    name: str, facts: Hashable, shapes: tuple[Hashable, ...], flops: float = 0.0
) -> Program:
    """``traced.PROGRAMS[name](*facts, *arrays)`` as a compiled program of the arrays.

    Args:
      name: of a function in `traced.PROGRAMS`, from arrays and nested dicts of them to a dict.
      facts: its leading arguments, which are static; their ``repr`` must tell all of them.
      shapes: one `abstract` of each argument that is not.
      flops: about what a call takes; where that is little, so is the effort of compiling.
    """
    arguments = [_tree_of(shape) for shape in shapes]
    key = user_cache.key_of(
        *(name, facts, shapes),
        *(jax.__version__, jaxlib.__version__, jax_export.default_export_platform()),
        *(getattr(jax.config, name) for name in _SETTINGS),
        *(jax.devices()[0].device_kind, user_cache.source_digest(*_TRACED_FROM)),
    )
    exported = _read(key, arguments)
    if exported is None:
        exported = _traced(key, name, facts, arguments)
    return _compiled(_lowered(exported, arguments), flops)


def abstract(tree: Any) -> Hashable:
    """Names, shapes and types of a nested dict of arrays, to be compared and hashed."""
    if isinstance(tree, Mapping):
        return tuple((name, abstract(tree[name])) for name in sorted(tree))
    return Leaf(tuple(tree.shape), str(tree.dtype))


def _tree_of(shape: Any) -> Any:
    if isinstance(shape, Leaf):
        return jax.ShapeDtypeStruct(*shape)
    return {name: _tree_of(inner) for name, inner in shape}


def _read(key: str, arguments: list[Any]) -> jax_export.Exported | None:
    """The kept program, if it is one and takes these arguments."""
    content = user_cache.read(TRACED, key)
    if content is None:
        return None
    try:
        exported = jax_export.deserialize(bytearray(content))
    # Whatever content of another version, or of another program, makes of the reader.
    except Exception:
        return None
    leaves, tree = jax.tree.flatten((tuple(arguments), {}))
    wanted = [(leaf.shape, leaf.dtype) for leaf in leaves]
    fits = exported.in_tree == tree and [(a.shape, a.dtype) for a in exported.in_avals] == wanted
    return exported if fits else None


def _traced(key: str, name: str, facts: Any, arguments: list[Any]) -> jax_export.Exported:
    # Whoever has a kept program needs neither the networks nor Flax.
    from mvdust3r_jax.reconstruction import traced

    function = functools.partial(traced.PROGRAMS[name], *facts)
    exported = jax_export.export(jax.jit(function))(*arguments)
    try:
        user_cache.write(TRACED, key, exported.serialize())
    except ImportError:  # flatbuffers, which only some installations of jax bring
        pass
    return exported


def _lowered(exported: jax_export.Exported, arguments: list[Any]) -> jax.stages.Lowered:
    """Ready to be compiled; LAPACK is only readied for programs that call it.

    JAX readies it for every exported program, and imports SciPy for that, which takes a third as
    long as importing JAX. Versions of JAX that do it elsewhere are left to.
    """
    _this_thread.needs_no_lapack = b"lapack" not in exported.mlir_module_serialized
    try:
        return jax.jit(exported.call).lower(*arguments)
    finally:
        _this_thread.needs_no_lapack = False


def _compiled(lowered: jax.stages.Lowered, flops: float) -> jax.stages.Compiled:
    if flops < _QUICK_BELOW_FLOPS and jax.default_backend() == "cpu":
        for options in _QUICK_OPTIONS:
            # Another version of XLA, without the options.
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                return lowered.compile(options)
    return lowered.compile()


def _ready_where_needed(platforms: tuple[str, ...]) -> None:
    if not getattr(_this_thread, "needs_no_lapack", False):
        _ready_backends(platforms)


_this_thread = threading.local()
_ready_backends = getattr(_export, "_ensure_backends_initialized", None)
if _ready_backends is not None:
    _export._ensure_backends_initialized = _ready_where_needed
