"""A run that stands still ends with its stacks; one that works or saves does not."""

import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

from data.box import BoxSource
from mvdust3r_jax.training.watchdog import STALLED, Watchdog

BOX = {"batch_size": 1, "num_targets": 0, "height": 4, "width": 4, "seed": 0}

_STALLS = """
import threading
from mvdust3r_jax.training.watchdog import Watchdog
def waits_for_a_host_that_is_gone():
    threading.Event().wait()
with Watchdog(0.5) as watchdog:
    threading.Thread(target=waits_for_a_host_that_is_gone, name="reader", daemon=True).start()
    threading.Event().wait()
"""


def test_a_stalled_process_ends_with_its_own_code_and_every_stack():
    """Both threads stand in the log with the line they wait in, although neither can be ended."""
    done = subprocess.run(
        [sys.executable, "-c", _STALLS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == STALLED
    assert "nothing was finished for" in done.stderr and "stall_minutes" in done.stderr
    assert "thread reader:" in done.stderr and "waits_for_a_host_that_is_gone" in done.stderr
    assert "thread MainThread:" in done.stderr


def ended(monkeypatch):
    """Exit codes that the watchdog asks for, instead of ending this process."""
    codes = []
    monkeypatch.setattr("mvdust3r_jax.training.watchdog.os._exit", codes.append)
    return codes


def test_steps_compilations_and_saves_are_no_stall(monkeypatch):
    """Each of them alone keeps the process alive for three limits; without them it ends."""
    codes, limit_s = ended(monkeypatch), 0.4
    with Watchdog(limit_s) as watchdog:
        for _ in range(12):
            time.sleep(limit_s / 4)
            watchdog.alive()
        with watchdog.paused():
            time.sleep(3 * limit_s)
        for i in range(12):
            time.sleep(limit_s / 4)
            jax.jit(lambda x, i=i: x + i)(jnp.float32(0))
        assert not codes
        time.sleep(2 * limit_s)
        assert set(codes) == {STALLED}


def test_a_compilation_longer_than_the_limit_is_no_stall(monkeypatch):
    """A new shape may take its time, once; the same shape again is a step like any other."""
    codes, limit_s = ended(monkeypatch), 0.4

    def slow(state, batch):
        time.sleep(3 * limit_s)
        return state

    with Watchdog(limit_s) as watchdog:
        step = watchdog.compiles(slow)
        for views in (2, 3):
            assert step("state", next(BoxSource(**BOX, num_inputs=(views,)))[0]) == "state"
        assert not codes
        step("state", next(BoxSource(**BOX, num_inputs=(2,)))[0])
        assert set(codes) == {STALLED}


def test_without_a_limit_and_after_its_end_it_watches_nothing(monkeypatch):
    """0 is off; a run that is over may be followed by anything."""
    codes = ended(monkeypatch)
    with Watchdog(0):
        time.sleep(0.3)
    with Watchdog(0.2):
        pass
    time.sleep(0.5)
    assert not codes


_WORKS = """
import time
from mvdust3r_jax.training.watchdog import Watchdog
with Watchdog(1.0) as watchdog:
    print("works", flush=True)
    for _ in range(50):
        time.sleep(0.1)
        watchdog.alive()
"""


def test_a_suspended_process_is_not_stuck():
    """Batch systems stop a job for longer than the limit, and let it go on."""
    command = [sys.executable, "-c", _WORKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        process.send_signal(signal.SIGCONT)
    assert process.returncode == 0
