"""Everything that takes a path, with every path in a bucket: an emulator of Google's storage."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import eval as evaluation
from configs import eval_defaults
from data import build
from data.stored.reader import TrajectorySet
from mvdust3r_jax import load_model
from mvdust3r_jax.cli import main as command
from mvdust3r_jax.storage import places
from mvdust3r_jax.training.checkpoint import BEST, NEWEST
from mvdust3r_jax.training.initial import initial_variables
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.weights.files import digest, load_weights
from tests import bucket_emulator
from tests.train_test import start

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")


@pytest.fixture(scope="module")
def bucket():
    """A path in an emulated bucket, for this process and those that it starts."""
    pytest.importorskip("gcp_storage_emulator")
    with bucket_emulator.serving() as port, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket_emulator.environment(port).items():
            patch.setenv(name, value)
        yield places.as_path(f"gs://{bucket_emulator.BUCKET}/folder")


def killed_after(step, workdir, process):
    """The run is killed when its metrics in the bucket hold this step."""
    for _ in range(600):
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if process.poll() is not None:
            pytest.fail(process.stdout.read()[-3000:])
        if any(json.loads(line)["step"] >= step for line in lines):
            process.kill()
            process.communicate()
            return
        time.sleep(0.5)
    process.kill()
    pytest.fail(f"step {step} was not reached: {process.communicate()[0][-3000:]}")


@pytest.fixture(scope="module")
def trained(bucket, tmp_path_factory):
    """A run in the bucket that was killed in the midst and started again."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or tmp_path_factory.mktemp("cache")
    workdir = bucket / "run"
    fields = {"eval_every": 4, "eval_batches": 1, "tensorboard": True, "pictures_every": 4}
    process = start(workdir, cache, **fields, stop_step=0)
    killed_after(4, workdir, process)
    process = start(workdir, cache, **fields, stop_step=14)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]
    return workdir, output


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_and_goes_on(trained):
    """Checkpoints, the best one, metrics of every step once, pictures and TensorBoard's files."""
    workdir, output = trained
    assert "going on after step" in output and "failed" not in output
    assert [p.name for p in sorted((workdir / NEWEST).iterdir())] == ["12", "14"]
    assert [p.name for p in (workdir / BEST).iterdir()] in (["4"], ["8"], ["12"], ["14"])
    records = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, 15))
    names = {path.name for path in (workdir / "pictures").iterdir()}
    assert names == {f"held_out_{step:08d}.png" for step in (4, 8, 12)}
    assert list((workdir / "tensorboard").iterdir())


@pytest.mark.slow
def test_what_is_half_written_is_no_checkpoint(trained):
    """Nothing is renamed into its place there: without the last file a step does not count."""
    workdir, _ = trained
    newest = workdir / NEWEST
    (newest / "15" / "meta").mkdir(parents=True, exist_ok=True)
    (newest / "15" / "meta" / "metadata").write_text("{}")
    before = digest(newest)
    (newest / "15" / "commit_success.txt").write_text("")
    assert digest(newest) != before
    places.remove_tree(newest / "15")


@pytest.mark.slow
def test_weights_go_from_bucket_to_bucket(trained, bucket):
    """A run is converted to a file and a folder there, which load, start a run, and have a name."""
    workdir, _ = trained
    file, folder = bucket / "weights" / "small.safetensors", bucket / "weights" / "small"
    for target in (file, folder):
        assert command(["convert", str(workdir), str(target)]) == 0
        assert command(["convert", str(workdir), str(target)]) != 0  # not replaced
    config, variables = load_weights(str(workdir))
    for source in (file, folder):
        jax.tree.map(np.testing.assert_array_equal, load_weights(str(source))[1], variables)
        assert load_model(str(source)).image_size == (16, 16)
    assert digest(str(file)) != digest(str(folder))
    from mvdust3r_jax import MVDust3r

    fresh = initial_variables(MVDust3r(config), height=16, width=16, seed=1, init_from=str(file))
    jax.tree.map(np.testing.assert_array_equal, fresh["params"], variables["params"])
    with pytest.raises(FileNotFoundError, match="there are no weights at gs://bucket/nothing"):
        load_model("gs://bucket/nothing")


@pytest.mark.slow
def test_an_evaluation_lies_in_a_bucket_and_is_continued(trained, bucket, capsys):
    """Records and tables are there; a second start computes only what is new."""
    config = eval_defaults.get_config()
    rooms = {"count": 1, "height": 16, "width": 16, "split": "validation"}
    config.datasets = {"rooms": eval_defaults.dataset("rooms", **rooms)}
    config.views, config.num_targets, config.pictures, config.devices = "2", "0", 0, 1
    given = {"config": config, "coordinator": "", "distributed": False}
    given |= {"weights": str(trained[0]), "workdir": str(bucket / "evaluated")}
    for methods in ("constant", "constant,mvd"):
        config.methods = methods
        evaluation.main(SimpleNamespace(**given))
    records = (bucket / "evaluated" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in records] == ["constant", "mvd"]
    assert "mvd" in (bucket / "evaluated" / "table.md").read_text()


def test_metrics_of_a_killed_run_are_there_up_to_its_last_checkpoint(bucket):
    """And a log that is opened again goes on behind the step it resumes at."""
    log = MetricLog(bucket / "log", 0, tensorboard=False)
    for step in (1, 2, 3):
        log.scalars(step, {"loss": step})
        if step == 2:
            log.event(step, "checkpoint", saved=True)
    again = MetricLog(bucket / "log", 2, tensorboard=False)
    again.scalars(3, {"loss": 30.0})
    again.close()
    lines = [json.loads(x) for x in (bucket / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [r["loss"] for r in lines if r["kind"] == "train"] == [1, 2, 30]


@pytest.mark.parametrize("text", ["gs://bucket/x", "gs:/bucket/x", "s3://bucket/x"])
def test_no_address_becomes_a_local_folder(tmp_path, monkeypatch, capsys, text):
    """What needs files of this machine says so, with the way out, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        build.main(["rooms", "--out", text])
    with pytest.raises(SystemExit):
        command(["reconstruct", "a.png", "b.png", "--out", text])
    assert capsys.readouterr().err.count("gcsfuse") == 2
    with pytest.raises(places.PlaceError, match="gcsfuse"):
        TrajectorySet(text, "train")
    with pytest.raises(places.PlaceError, match="s3|no folder or file of this machine"):
        places.local_path(text)
    assert command(["reconstruct", text, text, "--out", "scene"]) != 0
    assert not list(tmp_path.iterdir())


def test_buckets_need_no_package_until_they_are_used():
    """Without gcsfs the error names the extra; importing the package loads nothing of it."""
    code = "import sys, mvdust3r_jax.storage.places as p; sys.modules['gcsfs'] = None\n"
    code += "print([m for m in ('gcsfs', 'fsspec', 'etils') if sys.modules.get(m)])\n"
    code += "p.importlib.util.find_spec = dict(gcsfs=None).__getitem__\np.as_path('gs://b/x')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.strip() == "[]" and "pip install 'mvdust3r-jax[gcs]'" in said.stderr
