"""What commands write: beside the user's files, whole or not at all, nothing replaced unasked."""

import argparse
import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pycolmap
import pytest
from PIL import Image

from mvdust3r_jax import cli
from mvdust3r_jax.cli import convert
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.output_folder import check_inputs, check_output_folder
from mvdust3r_jax.media import photographs
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.weights import files as weight_files
from tests.cli.place import CONFIG, run


def test_photographs_are_written_where_files_cannot_be_named(place, tmp_path):
    """Turned by EXIF: upright files of the original size, which both formats name, later too."""
    paths = [tmp_path / "a b.jpg", place / "фото é" / "1 a.png"]
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (60, 40), "teal").save(paths[0], exif=tag)
    out = tmp_path / "o"
    assert run(place, *paths, "--out", out, "--export", "colmap") == 0
    assert run(place, out, "--export", "nerfstudio,colmap,colmap-text", command="render") == 0
    sizes = {
        p.name: photographs.read_photo(p).pixels.shape[1::-1] for p in (out / "images").iterdir()
    }
    assert sizes == {"a_b.jpg": (40, 60), "1_a.png": (40, 60)}
    frame = json.loads((out / "nerfstudio" / "transforms.json").read_text())["frames"][0]
    assert (out / "nerfstudio" / frame["file_path"]).resolve() == out / "images" / "a_b.jpg"
    assert (frame["w"], frame["h"]) == (40, 60)
    assert " 1 a_b.jpg\n" in (out / "colmap_text" / "sparse" / "0" / "images.txt").read_text()
    model = pycolmap.Reconstruction(out / "colmap" / "sparse" / "0")
    for image in model.images.values():
        with Image.open(out / "colmap" / "images" / image.name) as picture:
            camera = model.cameras[image.camera_id]
            assert picture.size == (camera.width, camera.height)


def test_plain_photographs_are_in_the_colmap_folder(place, tmp_path):
    """Byte for byte, under the names that the model has."""
    out = tmp_path / "o"
    for name, color in (("a.png", "teal"), ("b.png", "olive")):
        Image.new("RGB", (60, 40), color).save(tmp_path / name)
    assert run(place, tmp_path / "a.png", tmp_path / "b.png", "--out", out, "--export=colmap") == 0
    held = {p.name: p.read_bytes() for p in (out / "colmap" / "images").iterdir()}
    assert held == {name: (tmp_path / name).read_bytes() for name in ("a.png", "b.png")}


def test_saved_scenes_are_exported_later(place, tmp_path):
    """`render` adds formats beside a saved scene; a folder without one is refused."""
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--export", "npz") == 0
    assert run(place, tmp_path / "o", "--export", "cameras", command="render") == 0
    assert (tmp_path / "o" / "cameras.json").exists()
    assert run(place, tmp_path, command="render") == cli.EXIT_INPUT


def test_places_that_cannot_be_written_are_named(place, capsys):
    """The folder that was asked for, not a temporary one, and what to do."""
    assert run(place, place / "фото é", "--out", "/proc/1/x") == cli.EXIT_INPUT
    error = capsys.readouterr().err
    assert "error: /proc/1/x: cannot be written: " in error and "hint: choose a place" in error


def test_foreign_output_folders_are_not_touched(place, tmp_path, capsys):
    """A folder with other things, and a file in the folder's place."""
    (tmp_path / "thesis.txt").write_text("x")
    assert run(place, place / "фото é", "--out", tmp_path) == cli.EXIT_INPUT
    assert "holds other things (thesis.txt)" in capsys.readouterr().err
    (tmp_path / "mine" / "images").mkdir(parents=True)
    assert run(place, place / "фото é", "--out", tmp_path / "mine") == cli.EXIT_INPUT
    assert "holds other things (images)" in capsys.readouterr().err
    (tmp_path / "mine" / "images").rmdir()
    (tmp_path / "mine" / ".DS_Store").touch()
    (tmp_path / "mine" / "windows").mkdir()
    check_output_folder(tmp_path / "mine", ["scene.npz"], tmp_path / "mine" / "windows")
    shutil.rmtree(tmp_path / "mine")
    assert run(place, place / "фото é", "--out", tmp_path / "thesis.txt") == cli.EXIT_INPUT
    assert "is a file" in capsys.readouterr().err
    assert run(place, place / "фото é", "--out", tmp_path / "thesis.txt" / "x") == cli.EXIT_INPUT
    assert "Traceback" not in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path):
    """Its stage, which the next run removes; a file of such a name is somebody's."""
    (tmp_path / "out" / ".partial-x").mkdir(parents=True)
    check_output_folder(tmp_path / "out", ["scene.npz"])
    (tmp_path / "out" / ".partial-y").touch()
    with pytest.raises(ValueError, match=r"holds other things \(.partial-y\)"):
        check_output_folder(tmp_path / "out", ["scene.npz"])


def test_results_that_are_inputs_stay(place, tmp_path, capsys):
    """Photographs, cameras and masks that a run would replace or remove are refused; else told."""
    out = tmp_path / "o"
    photos = place / "фото é"
    assert run(place, photos, "--out", out, "--export", "colmap,cameras") == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = ["--out", out, "--export", "ply"]
    for given in ([out / "images"], [photos, "--cameras", out / "cameras.json"]):
        assert run(place, *given, *again) == cli.EXIT_INPUT
        assert "is a result of the run whose folder is" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    check_inputs(out, [tmp_path, photos])  # a folder around it is no result
    assert run(place, photos, *again) == 0
    told = "removed what an earlier run had written: cameras.json, colmap, images"
    assert told in capsys.readouterr().err


def test_results_again_leave_the_users_files(place, tmp_path, capsys):
    """reconstruct into an earlier result and render --export: what others put there stays."""
    out, photos = tmp_path / "o", place / "фото é"
    assert run(place, photos, "--out", out, "--export", "nerfstudio,ply") == 0
    for name in ("nerfstudio/mine.jpg", "notes.txt"):
        (out / name).write_text("user")
    assert run(place, photos, "--out", out, "--export", "nerfstudio") == 0
    assert run(place, out, "--export", "nerfstudio,colmap", command="render") == 0
    assert (
        (out / "nerfstudio" / "mine.jpg").read_text() == "user" == (out / "notes.txt").read_text()
    )
    assert not (out / "scene.ply").exists(), "a format of the earlier scene"
    along = ["--path", out / "notes.txt", "--export", "ply"]
    assert run(place, out, *along, command="render") == cli.EXIT_USAGE
    assert "--path is about the format mp4; --export has ply" in capsys.readouterr().err
    (out / "scene.glb").write_text("user")
    assert run(place, out, "--export", "glb", command="render") == cli.EXIT_INPUT
    assert "scene.glb: not written by this program" in capsys.readouterr().err
    assert (out / "scene.glb").read_text() == "user"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("odd"), MemoryError()])
def test_interrupted_runs_leave_nothing(place, tmp_path, capsys, monkeypatch, error):
    """Ctrl-C, faults and exhausted memory: no half result, an old one stays, own exit codes."""
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--export", "npz") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()}

    def stop(*_):
        raise error

    monkeypatch.setattr(Scene, "save_arrays", stop)
    code = run(place, place / "фото é", "--out", tmp_path / "o", "--export", "npz")
    assert code == {KeyboardInterrupt: 130, RuntimeError: 70, MemoryError: 3}[type(error)]
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["o"]
    assert "Traceback" not in capsys.readouterr().err


def test_weights_are_converted(place, tmp_path):
    """safetensors to .pth and back gives the same network."""
    paths = [place / "w.safetensors", tmp_path / "w.pth", tmp_path / "again.safetensors"]
    for source, target in itertools.pairwise(paths):
        assert run(place, source, target, command="convert") == 0
    _, wanted = weight_files.load_weights(paths[0])
    for path in paths[1:]:
        config, variables = weight_files.load_weights(path)
        assert config == CONFIG
        jax.tree.map(np.testing.assert_array_equal, variables, wanted)


def test_convert_replaces_a_folder_of_weights_only(place, tmp_path):
    """With --force; a folder of something else stays, whatever the name's ending asks for."""
    argv = ["convert", str(place / "w.safetensors"), str(tmp_path / "orbax")]
    assert [cli.main(argv), cli.main(argv), cli.main([*argv, "--force"])] == [0, cli.EXIT_INPUT, 0]
    assert weight_files.load_weights(tmp_path / "orbax")[0] == CONFIG
    assert [p.name for p in tmp_path.iterdir()] == ["orbax"]
    for name in ("album", "album.pth"):
        (tmp_path / name).mkdir()
    (tmp_path / "album.pth" / "a.jpg").write_text("user")
    (tmp_path / "album" / "config.json").write_text("another program's")
    (tmp_path / "orbax" / "notes.txt").write_text("user")
    before = sorted(tmp_path.rglob("*"))
    for name in ("album", "album.pth", "orbax"):
        assert cli.main([*argv[:2], str(tmp_path / name), "--force"]) == cli.EXIT_INPUT
    assert sorted(tmp_path.rglob("*")) == before


def test_endings_may_be_in_capitals(tmp_path, monkeypatch, capsys):
    """What PyTorch's release would compute otherwise is said of .PTH as of .pth."""
    config = dataclasses.replace(CONFIG, gaussians=True, max_scale=0.02)
    monkeypatch.setattr(convert.weight_files, "convert", lambda *_, **__: config)
    monkeypatch.setattr(convert, "find_weights", lambda name: name)
    given = dict(dtype="float32", ignore_objects=False, force=False)
    convert.run(argparse.Namespace(source="w", target=tmp_path / "w.PTH", **given), Console())
    assert "warning: Gaussians of this network" in capsys.readouterr().err


def test_a_file_in_a_bucket_is_no_file_of_this_machine(tmp_path):
    """What lies at the target stays, and is called what it is."""
    (tmp_path / "w.pth").write_text("user")
    args = argparse.Namespace(source="gs://bucket/w.pth", target=tmp_path / "w.pth", force=False)
    with pytest.raises(FileExistsError, match="w.pth exists; --force replaces it"):
        convert.run(args, Console())


def test_convert_replaces_nothing_unasked(place, tmp_path, capsys):
    """Neither another file nor its own input, in which bfloat16 would lose digits."""
    weights = tmp_path / "w.safetensors"
    shutil.copy(next(place.glob("*.safetensors")), weights)
    before = weights.read_bytes()
    in_place = ["convert", str(weights), str(weights), "--dtype", "bfloat16"]
    assert cli.main(in_place) == cli.EXIT_INPUT
    assert "it is the input itself" in capsys.readouterr().err and weights.read_bytes() == before
    (tmp_path / "other.safetensors").write_text("user")
    argv = ["convert", str(weights), str(tmp_path / "other.safetensors")]
    assert cli.main(argv) == cli.EXIT_INPUT
    assert "--force" in capsys.readouterr().err
    assert cli.main([*argv, "--force"]) == 0
    assert cli.main([*in_place, "--force"]) == 0


def test_networks_are_converted_by_name(tmp_path):
    """As they are loaded by every other command."""
    assert cli.main(["convert", "small", str(tmp_path / "s.pth")]) == 0
    assert weight_files.load_weights(tmp_path / "s.pth")[0].enc_dim > 0
