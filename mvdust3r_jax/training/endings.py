"""How a run that fails ends: with the reason as its last line."""

from __future__ import annotations

import sys
import traceback

import jax

from mvdust3r_jax.training.processes import RunError
from mvdust3r_jax.training.skipped import NonFiniteError

OUT_OF_MEMORY = (
    "the device ran out of memory. In this order, try: a smaller config.data.batch_size, or the "
    "same one in parts (config.accumulation); config.remat='full'; config.dtype='bfloat16'; fewer "
    "config.data.num_inputs; config.loss.render_views and render_paths; config.parallel='fsdp'"
)


def reason(error: Exception) -> str:
    """One line for the end of the log; above it, on stderr, all that is known of other errors.

    Of those that are told in one line by themselves nothing else is printed.
    """
    if isinstance(error, RunError | NonFiniteError):
        return f"error: {error}"
    if _is_lack_of_memory(error):
        print(str(error)[:2000], file=sys.stderr)
        return f"error: {OUT_OF_MEMORY}"
    # With it come JAX's notes on its tracebacks, which would else be the last lines.
    traceback.print_exception(error)
    lines = str(error).strip().splitlines() or [""]
    return f"error: {type(error).__name__}: {lines[0][:1000]}"


def _is_lack_of_memory(error: Exception) -> bool:
    """A full disk has the same status."""
    told = str(error) if isinstance(error, jax.errors.JaxRuntimeError) else ""
    return "RESOURCE_EXHAUSTED" in told and "No space left on device" not in told
