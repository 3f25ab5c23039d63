"""Exported programs: the same numbers from a folder, without tracing or compiling."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from mvdust3r_jax import cli
from mvdust3r_jax.reconstruction import serving
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.weights import files as weight_files
from tests.reconstruction.random_model import CONFIG

pytest.importorskip("flatbuffers")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "program"
    serving.export_program(folder, model, 3)
    return folder


def test_served_program_equals_the_library(model, folder):
    """Points, confidences and Gaussians are those of `reconstruct`."""
    photographs = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), dtype=np.uint8)
    result = serving.load_program(folder)(photographs)
    scene = reconstruct(list(photographs), model, reference="first")
    np.testing.assert_allclose(result["points"], scene.points, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result["confidence"], scene.confidence, rtol=1e-4)
    np.testing.assert_allclose(result["scales"], scene.gaussians.scales, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(result["world_from_cam"][0], np.eye(4))
    assert result["world_from_cam"].shape == (3, 4, 4) and result["focal_px"].shape == ()


def test_loading_compiles_nothing(folder, tmp_path):
    """The compiled program comes from the folder, wherever it is: one entry is read, none added."""
    folder = shutil.copytree(folder, tmp_path / "elsewhere")
    cached = {p.name for p in (folder / "compiled").iterdir()}
    events = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    serving.load_program(folder)
    assert "/jax/compilation_cache/cache_hits" in events
    assert "/jax/compilation_cache/cache_misses" not in events
    assert {p.name for p in (folder / "compiled").iterdir() if "atime" not in p.name} <= cached


def test_programs_that_are_loaded_at_once_leave_the_settings_as_they_were(folder):
    """Each has a compilation cache of its own meanwhile; those are the process's settings."""
    before = jax.config.jax_compilation_cache_dir
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(serving.load_program, [folder] * 4))
    assert jax.config.jax_compilation_cache_dir == before


def test_what_does_not_fit_is_refused(model, folder, tmp_path):
    """Other shapes and types of photographs, one view, folders without a program."""
    served = serving.load_program(folder)
    with pytest.raises(serving.ServingError, match=r"\(3, 16, 24, 3\).*\(2, 16, 24, 3\)"):
        served(np.zeros((2, 16, 24, 3), np.uint8))
    with pytest.raises(serving.ServingError, match="float32"):
        served(np.zeros((3, 16, 24, 3), np.float32))
    with pytest.raises(serving.ServingError, match="at least 2"):
        serving.export_program(tmp_path / "x", model, 1)
    with pytest.raises(FileNotFoundError):
        serving.load_program(tmp_path)
    (tmp_path / "serving.json").write_text("{}")
    (tmp_path / "program.bin").write_bytes((folder / "program.bin").read_bytes())
    with pytest.raises(serving.ServingError, match="no exported program"):
        serving.load_program(tmp_path)


@pytest.mark.parametrize("content", [b"", bytes(9), b"damaged"])
def test_damaged_programs_are_refused(folder, tmp_path, content):
    """Whatever the reader makes of it, it is the one error."""
    (tmp_path / "serving.json").write_bytes((folder / "serving.json").read_bytes())
    (tmp_path / "program.bin").write_bytes(content)
    with pytest.raises(serving.ServingError, match="no exported program"):
        serving.load_program(tmp_path)


def test_program_of_another_kind_of_device_is_refused(folder, monkeypatch):
    """Kinds have the programs' names: an NVIDIA GPU is 'cuda', though the backend is 'gpu'."""
    monkeypatch.setattr(serving.jax_export, "default_export_platform", lambda: "cuda")
    with pytest.raises(serving.ServingError, match="exported for cpu, this is cuda"):
        serving.load_program(folder)
    monkeypatch.setattr(serving.jax_export, "default_export_platform", lambda: "cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert serving.load_program(folder).shape == (3, 16, 24, 3)


def test_command_line(model, tmp_path, capsys, monkeypatch):
    """`mvdust3r export` takes model, views, references and size to the exporter."""
    weight_files.save_weights(
        tmp_path / "w.safetensors", model.variables, CONFIG, image_size=(16, 24)
    )
    calls = []
    monkeypatch.setattr(serving, "export_program", lambda *given: calls.append(given))
    arguments = ["--weights", str(tmp_path / "w.safetensors"), "--views", "2", "--json"]
    assert cli.main(["export", str(tmp_path / "out"), *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == len(serving.FILES)
    ((folder, loaded, *rest),) = calls
    assert folder == tmp_path / "out" and loaded.config == CONFIG and rest == [2, 4, None]
