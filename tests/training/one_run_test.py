"""A folder belongs to one run at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvdust3r_jax.training.one_run import alone_in
from mvdust3r_jax.training.processes import RunError

_HOLDER = """
import sys
from pathlib import Path
from mvdust3r_jax.training.one_run import alone_in
with alone_in(Path(sys.argv[1])):
    print("HELD", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    """It is told which process holds the folder, and leaves its word alone."""
    run = tmp_path / "run"
    for _ in range(2):
        with alone_in(run):
            for _ in range(2):
                with pytest.raises(RunError, match=rf"process {os.getpid()} on .*SIGTERM saves"):
                    with alone_in(run):
                        pass


def test_a_killed_run_holds_nothing(tmp_path):
    """The lock dies with its process, without a word."""
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    root = Path(__file__).parents[2]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=root, **pipes) as holder:
        assert holder.stdout.readline() == "HELD\n"
        with pytest.raises(RunError, match=f"process {holder.pid} on "):
            with alone_in(tmp_path):
                pass
        holder.kill()
    with alone_in(tmp_path):
        pass
