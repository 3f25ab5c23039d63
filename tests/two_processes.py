"""Runs a Python program as several processes that find each other on this machine."""

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(i), str(port), str(ROOT), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(count)
    ]
    try:
        said = [worker.communicate(timeout=timeout_s)[0] for worker in workers]
    except subprocess.TimeoutExpired:
        for worker in workers:
            worker.kill()
        said = [worker.communicate()[0] for worker in workers]
        raise AssertionError(f"not finished within {timeout_s} s:\n" + "\n".join(said)) from None
    assert [worker.returncode for worker in workers] == [code] * count, "\n".join(said)
    return said
