"""The profiler runs during those steps of its range that a run takes."""

from pathlib import Path

import jax
import pytest

from mvdust3r_jax.training.trace import Trace, serve_profiler, traced_steps


class Recorder:
    """Takes any call and keeps its name."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *given, **_: self.calls.append((name, *given))


@pytest.fixture
def profiler(monkeypatch):
    """Stands in for jax's profiler, which like it refuses to stop what was not started."""
    recorder, running = Recorder(), []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda _: running.append(recorder.start()))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: recorder.stop(running.pop()))
    yield recorder
    assert not running, "the trace was never closed"


@pytest.mark.parametrize(
    ("first_step", "end", "traced"),
    [(0, 9, [3, 4, 5]), (3, 9, [4, 5]), (0, 4, [3, 4]), (5, 9, []), (0, 2, [])],
    ids=["whole", "resumed inside", "ends inside", "resumed after", "ends before"],
)
def test_those_steps_of_the_range_are_traced_that_the_run_takes(first_step, end, traced, profiler):
    """Steps 3 to 5, whatever the run's own first and last steps are; the trace is closed."""
    trace, seen = Trace(Path("unused"), range(3, 6)), []
    for step in range(first_step + 1, end + 1):
        trace.before(step)
        names = [name for name, *_ in profiler.calls]
        seen += [step] if names.count("start") > names.count("stop") else []
        trace.after(step, {}, last=step == end)
    assert seen == traced
    assert len(profiler.calls) == 2 * bool(traced)


def test_a_range_of_the_wrong_form_is_refused():
    """What was given is quoted; the right form is understood."""
    assert traced_steps("") == range(0)
    assert traced_steps("5:7") == range(5, 8)
    for text in ("5", "5:", ":5", "7:5", "0:3", "a:b"):
        with pytest.raises(ValueError, match=f"FIRST:LAST.*'{text}'"):
            traced_steps(text)


def test_the_profiler_is_served_where_it_is_asked_for(monkeypatch, caplog):
    """At the port plus the process's index, so that processes of one machine do not collide."""
    ports = []
    monkeypatch.setattr(jax.profiler, "start_server", ports.append)
    serve_profiler(0)
    assert not ports
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    serve_profiler(9012)
    assert ports == [9015]


def test_a_trace_that_cannot_be_written_ends_no_run(monkeypatch, caplog):
    """A full disk: jax raises an error of its own."""

    def full():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x.pb; No space left on device")

    monkeypatch.setattr(jax.profiler, "start_trace", lambda _: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", full)
    trace = Trace(Path("unused"), range(1, 2))
    trace.before(1)
    trace.after(1, {}, last=True)
    assert "No space left" in caplog.text
