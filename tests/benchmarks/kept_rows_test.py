"""Rows of results: which one a new one replaces, and how they are shown."""

import sys

import pytest

from benchmarks import forward, machine, pods, windows


def test_a_pass_of_another_size_is_another_row(tmp_path, monkeypatch):
    """The same case is measured anew, one of 512 pixels stands beside that of 224."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    case = dict(variant="mvdp", dtype="float32", height=224, width=224, views=4, num_refs=4)
    machine.write_results("forward", [case | {"s": 1.0}])
    rows = forward.merged("forward", [case | {"s": 2.0}, case | {"height": 512, "s": 9.0}])
    assert [(row["height"], row["s"]) for row in rows] == [(224, 2.0), (512, 9.0)]


def test_windows_are_shown_as_means_with_an_interval():
    """Errors of rooms become one cell; what else is told stays as it is."""
    row = {"by": "oracle", "nd_m": [0.1, 0.1, 0.1], "cpu_s": 1.5}
    assert windows.table([row]).splitlines()[-1] == "| oracle | 0.100 [0.100, 0.100] | 1.5 |"


def test_a_pod_that_is_over_is_not_killed(tmp_path, monkeypatch, capsys):
    """What an earlier call left is told before a process is started."""
    (tmp_path / "pod").mkdir()
    monkeypatch.setattr(pods, "start", lambda *args: pytest.fail("started"))
    monkeypatch.setattr(sys, "argv", ["pods", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        pods.main()
    assert "no host to kill" in capsys.readouterr().err
