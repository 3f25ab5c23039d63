"""Why a checkpoint could not be written or read, as one line for the log."""

from __future__ import annotations

import jax

from mvdust3r_jax.training import processes


def _first_cause(error: BaseException) -> BaseException:
    """What went wrong first in this process.

    orbax cleans up in barriers, in which a process that failed is missed; errors of those hide its
    own, and are the cause only where there is no other.
    """
    chain = [error]
    while (last := chain[-1]).__cause__ or last.__context__:
        hidden = last.__suppress_context__ and not isinstance(last, processes.OtherFailed)
        if last.__cause__ is None and hidden:
            break
        chain.append(last.__cause__ or last.__context__)
    missed = [found for found in chain if isinstance(found, processes.OtherFailed)]
    barriers = processes.OtherFailed | jax.errors.JaxRuntimeError
    own = [found for found in chain if not isinstance(found, barriers)]
    return (own or missed or chain)[-1]


def first_line(error: BaseException) -> str:
    """Type and beginning of the message of an error's first cause, for the log."""
    error = _first_cause(error)
    line = (str(error).strip().splitlines() or [""])[0]
    # The system's own words stand at the end, behind what may be long paths.
    line = line if len(line) < 400 else f"{line[:200]} ... {line[-200:]}"
    return f"{type(error).__name__}: {line}"
