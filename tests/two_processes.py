"""Runs a Python program as several processes that find each other on this machine."""

import functools
import socket
import subprocess
import sys
from pathlib import Path

import jax
from jax._src import cache_key

ROOT = Path(__file__).parents[1]


def share_programs(folder: str):
    """To be called by each process: the first compiles for all of them, and for later runs.

    JAX can do so where the key of a program is the same in all processes; on CPUs it holds the
    devices of its own process, on GPUs it does not.
    """
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_share_binary_between_hosts", True)
    jax.config.update("jax_share_binary_between_hosts_timeout_ms", 200_000)
    options = cache_key._hash_serialized_compile_options
    without_devices = functools.partial(options, strip_device_assignment=True)
    cache_key._hash_serialized_compile_options = lambda made, values, **_: without_devices(
        made, values
    )
    cache_key._hash_accelerator_config = lambda made, devices: None


def run_in_two(script: Path, program: str, *arguments: str, timeout_s: float) -> list[str]:
    """What process 0 and process 1 said; both must end with 0."""
    return run_in(2, script, program, *arguments, timeout_s=timeout_s)


def run_in(
    count: int, script: Path, program: str, *arguments: str, timeout_s: float, code: int = 0
) -> list[str]:
    """What each process said; all must end with ``code``.

    ``script``: where the program is written. It is called with its process index, a free port, the
    repository's root and ``arguments``.
    """
    script.write_text(program)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Into files: a pipe that nobody reads yet would stop its process, and with it the others.
    logs = [script.with_suffix(f".{i}.txt") for i in range(count)]
    workers = []
    for i, log in enumerate(logs):
        command = [sys.executable, str(script), str(i), str(port), str(ROOT), *arguments]
        with log.open("w") as file:
            workers.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))
    try:
        codes = [worker.wait(timeout=timeout_s) for worker in workers]
    except subprocess.TimeoutExpired:
        codes = [f"not finished within {timeout_s} s"]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    said = [log.read_text() for log in logs]
    assert codes == [code] * count, f"{codes}\n" + "\n".join(said)
    return said
