"""A command while it runs: signals, what it says meanwhile, programs that it keeps, its speed."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import pytest

from mvdust3r_jax import cli
from mvdust3r_jax.cli import commands, console, inputs, signals
from mvdust3r_jax.cli.console import Console


@pytest.fixture(autouse=True)
def heard():
    """No signal is ignored, as they are where somebody runs the tests in the background."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals._SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_what_is_ignored_stays_ignored():
    """As nohup ignores SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.interruptible():
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(signals.Interrupted):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_interrupted_while_it_starts():
    """Ctrl-C while JAX is being imported: one word and code 130, no traceback and no crash."""
    command = [sys.executable, "-X", "importtime", "-m", "mvdust3r_jax.cli", "view", "none"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The interpreter names each module that is done: the first of JAX's says how far it is.
    while "jax._src" not in (line := started.stderr.readline()):
        assert line, "the program ended before it imported JAX"
    started.send_signal(signal.SIGINT)
    err = started.communicate(timeout=60)[1]
    # Where the imports take longer than `GRACE_S`, an empty line comes before.
    said = [line for line in err.splitlines() if line and not line.startswith("import time:")]
    assert (started.returncode, said) == (cli.EXIT_INTERRUPTED, ["error: interrupted"])


def test_a_signal_waits_for_what_must_not_be_interrupted():
    """It is raised behind it, and not lost."""
    done = False
    with signals.interruptible(), pytest.raises(signals.Interrupted) as interruption:
        with signals.held():
            signal.raise_signal(signal.SIGINT)
            done = True
    assert done and interruption.value.exit_code == cli.EXIT_INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_while_nothing_of_python_runs(tmp_path, number):
    """As in a long compilation: the process ends in time, cleaned up, with the signal's code."""
    program = (
        "import hashlib, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mvdust3r_jax.cli import signals\n"
        "from mvdust3r_jax.storage.results import results_folder\n"
        "signals.GRACE_S = 0.3\n"
        "try:\n"
        "    with signals.interruptible(), results_folder(sys.argv[1]) as stage:\n"
        "        (stage / 'half').touch()\n"
        "        print('in', flush=True)\n"
        "        hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000)\n"
        "except signals.Interrupted as interruption:\n"  # it came before the long call
        "    signals.leave(interruption.exit_code)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert [p for p in (tmp_path / "out").rglob("*") if p.name == "half"] == []


@pytest.fixture
def stub(monkeypatch):
    """A command that says something and has a result."""

    def run(args, told):
        told.say("working")
        with told.stage("work"):
            pass
        return {"a": 1}

    monkeypatch.setattr(commands, "_command", lambda name: SimpleNamespace(run=run))
    return ["export", "out", "--views", "2", "--json"]


# What leads nowhere is not closed before Python ends.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["closed", "full"])
def test_messages_that_cannot_be_written_end_no_work(stub, monkeypatch, capsys, kind):
    """The result is there; services are started without stderr, and readers of it may go away."""
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full if kind == "full" else None)
        monkeypatch.setattr(sys, "argv", ["mvdust3r", *stub])
        with pytest.raises(SystemExit) as ended:
            cli.program()
    assert ended.value.code == 0 and json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_result_that_cannot_be_written_is_one_error(stub, monkeypatch, capsys):
    """Not one of its own on top of the first."""
    # What could not be written fails again when it is closed.
    closing = contextlib.suppress(OSError)
    with closing, open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(stub) == 1
    told = capsys.readouterr().err.splitlines()[-2:]
    assert told[0] == "error: the result for stdout: No space left on device"
    assert told[1].startswith("hint: free some space")


def test_long_stages_tell_how_far_they_are_without_a_terminal(monkeypatch, capsys):
    """A line now and then, with the share that is done; none in quiet runs."""
    monkeypatch.setattr(console, "_LINE_EVERY_S", 0.05)
    for quiet in (False, True):
        told = Console(quiet=quiet)
        with told.stage("write mp4"):
            told.advance(0.5)
            time.sleep(0.2)
        lines = capsys.readouterr().err.splitlines()
        assert quiet == (lines == [])
        assert quiet or lines[0].startswith("write mp4: [##########          ]"), lines


def test_compilation_cache_is_announced_once(tmp_path, monkeypatch, capsys):
    """The user's cache folder is used and said when it is made; a configured one is kept."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        inputs.use_compilation_cache(Console())
        chosen = jax.config.jax_compilation_cache_dir
        assert str(chosen).startswith(str(tmp_path / "cache"))
        assert "compiled programs are kept in" in capsys.readouterr().err
        inputs.use_compilation_cache(Console())
        jax.config.update("jax_compilation_cache_dir", None)
        inputs.use_compilation_cache(Console())
        assert capsys.readouterr().err == ""
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_bench_measures(tmp_path, capsys):
    """The row of a number of views has a positive time and a share of the matmul rate."""
    arguments = ["--variant", "tiny", "--views", "2", "--size", "32", "--repeats", "1", "--json"]
    assert cli.main(["bench", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["V"] for row in result["rows"]] == [2] and result["machine"]["processor"]
    assert all(row["run s"] > 0 and 0 < row["of matmul"] < 2 for row in result["rows"])
