"""Runs a Python program as two processes that find each other on this machine."""

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_in_two(script: Path, program: str, *arguments: str, timeout_s: float) -> list[str]:
    """What process 0 and process 1 said; both must end with 0.

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
        for i in (0, 1)
    ]
    try:
        said = [worker.communicate(timeout=timeout_s)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], said
    return said
