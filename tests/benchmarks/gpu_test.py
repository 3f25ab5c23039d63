"""`benchmarks.gpu`: the code of a GPU's day at toy sizes on the CPU, and how it keeps its rows."""

import json

import pytest

from benchmarks import gpu, gpu_parts

PARTS = gpu_parts.parts(gpu_parts.TINY)


# With rematerialization the step is the same code, and compiles for longer.
@pytest.mark.parametrize("name", [name for name in PARTS if "remat" not in name])
def test_every_part_runs(name):
    """Each yields rows that JSON holds, and what they say can be printed."""
    rows = json.loads(json.dumps(list(PARTS[name]())))
    assert rows
    entry = {"rows": rows, "done": True, "wall_s": 1.0}
    text = gpu.table({"machine": {"device": "toy"}, "parts": {name: entry}})
    assert len(text.splitlines()) == 3 + len(rows)
    if name == "parity":
        exact, _, half = [max(row["errors"].values()) for row in rows[:3]]
        assert exact < 1e-5 < half < 0.2


@pytest.mark.parametrize("limit, expected", [(900, 3), (1_000, 4), (1_200, 5)])
def test_largest_batch_lies_on_the_line_of_two_programs(limit, expected):
    """100 bytes and 200 a sample in 95 % of the memory."""
    assert gpu_parts.largest_batch({1: 300, 2: 500}, limit) == expected


class Fake:
    """Parts that take no time: what `benchmarks.gpu` starts instead of processes."""

    def __init__(self, failing=()):
        self.failing, self.started = failing, []

    def __call__(self, name, tiny, limit_s, said):
        self.started.append(name)
        yield {"machine": {"device": "toy"}, "value": 1}
        if name in self.failing:
            raise RuntimeError("out of memory")
        yield {"machine": {"device": "toy"}, "value": 2}


def test_a_failed_part_keeps_its_rows_and_is_all_that_the_next_call_repeats(tmp_path, monkeypatch):
    """Rows before the failure are in the file, other parts ran, and the exit code tells."""
    path, broken = tmp_path / "gpu.json", Fake(failing=["rasterizer"])
    monkeypatch.setattr(gpu, "rows_of", broken)
    assert gpu.main(["--results", str(path)]) == 1
    kept = json.loads(path.read_text())["parts"]
    assert [r["value"] for r in kept["rasterizer"]["rows"]] == [1]
    assert kept["rasterizer"]["failed"] == "out of memory" and kept["room training"]["done"]
    mended = Fake()
    monkeypatch.setattr(gpu, "rows_of", mended)
    assert gpu.main(["--results", str(path)]) == 0
    assert mended.started == ["rasterizer"] and broken.started == gpu.names(False)
    assert gpu.main(["--results", str(path), "--again", "forward 4"]) == 0
    assert mended.started == ["rasterizer", "forward 4 views"]


def test_nothing_is_begun_when_the_time_is_over(tmp_path, monkeypatch, capsys):
    """The parts that are missing are named."""
    never = Fake()
    monkeypatch.setattr(gpu, "rows_of", never)
    assert gpu.main(["--results", str(tmp_path / "gpu.json"), "--minutes", "0.1"]) == 1
    assert not never.started and "missing" in capsys.readouterr().out


def test_a_part_is_a_process_whose_failure_is_told():
    """Its last words are in the error."""
    with pytest.raises(RuntimeError, match="KeyError: 'no such part'"):
        list(gpu.rows_of("no such part", True, 60, []))


def test_a_worse_run_of_a_part_replaces_nothing(tmp_path, monkeypatch):
    """Done once, failed when asked again: the rows of the first run stay, and the part is done."""
    path = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "rows_of", Fake())
    gpu.main(["--results", str(path), "--only", "rasterizer"])
    before = gpu.read(path)["parts"]["rasterizer"]
    monkeypatch.setattr(gpu, "rows_of", Fake(failing=["rasterizer"]))
    gpu.main(["--results", str(path), "--only", "rasterizer", "--again", "rasterizer"])
    assert gpu.read(path)["parts"]["rasterizer"] == before and len(before["rows"]) == 2
