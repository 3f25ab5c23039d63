"""The command line: whole runs, and one clear sentence for whatever goes wrong."""

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pycolmap
import pytest
from PIL import Image

from mvdust3r_jax import ModelConfig, cli
from mvdust3r_jax.cli import console, inputs, values, view
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.media import photographs
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.results import MANIFEST
from mvdust3r_jax.weights import files as weight_files

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with weights and three photographs, whose names are not plain."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    weight_files.save_weights(folder / "w.safetensors", variables, CONFIG, image_size=(16, 24))
    (folder / "фото é").mkdir()
    for i, size in enumerate([(40, 60), (60, 40), (33, 47)]):
        array = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / "фото é" / f"{i} a.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, place):
    """Nothing of a test ends in the user's folders; programs are kept for the tests after it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))


def run(place, *arguments, command="reconstruct"):
    """The exit code of a command on the place's weights."""
    arguments = [str(a) for a in arguments]
    if command == "reconstruct":
        arguments += ["--weights", str(place / "w.safetensors")]
    return cli.main([command, *arguments])


def test_photographs_to_results(place, tmp_path, capsys):
    """All files are there, the JSON names them, and a second run replaces them."""
    out = tmp_path / "out dir"
    for exports in ("ply,glb,cameras,preview", "npz"):
        assert run(place, place / "фото é", "--out", out, "--export", exports, "--json") == 0
        result = json.loads(capsys.readouterr().out)
        assert {os.path.basename(f) for f in result["files"]} == {
            p.name for p in out.iterdir() if p.name != MANIFEST
        }
        assert result["views"] == 3 and result["names"] == ["0 a.png", "1 a.png", "2 a.png"]
        assert result["total_seconds"] > 0 and result["peak_bytes"] > 1 << 20
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    scene = Scene.load(out)
    assert scene.original_sizes.tolist() == [[40, 60], [60, 40], [33, 47]]


def test_odd_photographs_give_a_valid_result(place, tmp_path):
    """The same file twice, a black one, a line of pixels, a wrong ending; one mask for it twice."""
    photo = place / "фото é" / "0 a.png"
    Image.new("RGB", (30, 20)).save(tmp_path / "black.jpg")
    Image.new("RGB", (500, 1), (9, 9, 9)).save(tmp_path / "line.png")
    (tmp_path / "wrong.png").write_bytes((tmp_path / "black.jpg").read_bytes())
    (tmp_path / "masks").mkdir()
    for name in ("0 a", "black", "line", "wrong"):
        half = Image.new("L", (30, 20))
        half.paste(255, (0, 0, 30, 10))
        half.save(tmp_path / "masks" / f"{name}.png")
    for i, others in enumerate([(photo, tmp_path / "black.jpg"), ("black.jpg", "line.png")]):
        paths = [photo, *(tmp_path / o for o in others)]
        assert run(place, *paths, "--out", tmp_path / str(i), "--export", "ply,cameras") == 0
        assert np.isfinite(Scene.load(tmp_path / str(i)).points).all()
    paths = [tmp_path / name for name in ("wrong.png", "black.jpg", "wrong.png")]
    arguments = ["--masks", tmp_path / "masks", "--out", tmp_path / "m", "--export", "ply"]
    assert run(place, *paths, *arguments) == 0
    masks = Scene.load(tmp_path / "m").masks
    assert masks[:, :7].all() and not masks[:, 9:].any()


def test_masks_and_cameras_of_folders_with_the_same_names(place, tmp_path, capsys):
    """Each photograph has the mask of its own folder; one mask for two is refused."""
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        (tmp_path / "masks" / side).mkdir(parents=True)
        Image.new("RGB", (30, 20), "teal").save(tmp_path / side / "1.png")
        mask = Image.new("L", (30, 20), 255)
        mask.paste(0, (0, 0, 30 if side == "left" else 0, 10))
        mask.save(tmp_path / "masks" / side / "1.png")
    photos = [tmp_path / side / "1.png" for side in ("left", "right")]
    more = ["--masks", tmp_path / "masks", "--out", tmp_path / "o", "--export", "npz"]
    assert run(place, *photos, *more) == 0
    scene = Scene.load(tmp_path / "o")
    assert scene.masks[1].all() and not scene.masks[0, :7].any()
    more[1] = tmp_path / "masks" / "left"
    assert run(place, *photos, *more) == cli.EXIT_INPUT
    assert "is the mask of both" in capsys.readouterr().err
    pose = np.eye(4).tolist()
    cameras = {"frames": [{"file_path": "left/1.png", "transform_matrix": pose}]}
    (tmp_path / "c.json").write_text(json.dumps(cameras))
    more = ["--cameras", tmp_path / "c.json", "--out", tmp_path / "o"]
    assert run(place, *photos, *more) == cli.EXIT_INPUT
    assert "one camera, left/1.png, for both" in capsys.readouterr().err
    assert run(place, photos[0], photos[0], *more, "--use", "intrinsics") == cli.EXIT_INPUT
    assert "no intrinsics for 1.png" in capsys.readouterr().err


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
    assert sizes == {"a_b.jpg": (40, 60), "1_a.png.jpg": (40, 60)}
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


def test_missing_packages_are_told_before_the_network_runs(place, tmp_path, capsys, monkeypatch):
    """Videos without their encoder are refused at once, with what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "ffmpeg" in name else find(name)
    )
    monkeypatch.setattr(inputs, "open_model", lambda *_: pytest.fail("the weights were loaded"))
    arguments = ["--out", tmp_path / "o", "--export", "ply,mp4"]
    assert run(place, place / "фото é", *arguments) == cli.EXIT_INPUT
    error = capsys.readouterr().err
    assert "mp4 needs the package imageio_ffmpeg" in error and "hint: pip install" in error


def test_quiet_says_nothing(place, tmp_path, capsys):
    """Neither on stdout nor on stderr."""
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--quiet", "--export", "npz") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_saved_scenes_are_exported_later(place, tmp_path):
    """`render` adds formats beside a saved scene; a folder without one is refused."""
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--export", "npz") == 0
    assert run(place, tmp_path / "o", "--export", "cameras", command="render") == 0
    assert (tmp_path / "o" / "cameras.json").exists()
    assert run(place, tmp_path, command="render") == cli.EXIT_INPUT


def test_weights_are_converted(place, tmp_path):
    """safetensors to .pth and back gives the same network."""
    assert run(place, place / "w.safetensors", tmp_path / "w.pth", command="convert") == 0
    config, _ = weight_files.load_weights(tmp_path / "w.pth")
    assert config == CONFIG


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{p}/фото é/0 a.png"], 1, "at least 2 photographs are needed, got 1"),
        (["{p}/no.png"], 1, "there is no file or folder"),
        (["{t}"], 1, "holds no images"),
        (["{p}/w.safetensors", "{p}/фото é"], 1, "w.safetensors cannot be read as an image"),
        (["{p}/фото é", "--export", "obj"], 1, "unknown export format 'obj'"),
        (["{p}/фото é", "--size", "20"], 1, "multiples of 8"),
        (["{p}/фото é", "--focal", "exif"], 1, "no EXIF focal length in 0 a.png"),
        (["{p}/фото é", "--masks", "{t}"], 1, "no mask for 0 a.png"),
        (["{p}/фото é", "--cameras", "{t}/c.json"], 1, "c.json"),
        (["{p}/фото é", "--memory", "0.1"], 3, "GiB can be used"),
        (["{p}/фото é", "--min-confidence", "1e9"], 1, "no point is left: 0 of 1,152 points"),
        (["{p}/фото é", "--use", "poses"], 2, "--use poses says what to take from --cameras"),
        (["{p}/фото é", "--masks", "{p}/none"], 1, "none, is missing"),
        (["{p}/фото é", "--cameras", "{t}"], 1, "holds no cameras"),
    ],
)
def test_errors_are_one_sentence(place, tmp_path, capsys, arguments, code, message):
    """Exit code and message without a traceback; no output folder is left."""
    (tmp_path / "given").mkdir()
    arguments = [a.format(p=place, t=tmp_path / "given") for a in arguments]
    assert run(place, *arguments, "--out", tmp_path / "out", "--json") == code
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert message in json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err
    assert [p.name for p in tmp_path.iterdir()] in (
        ["given"],
        ["given", "cache"],
        ["cache", "given"],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--min-confidence", "nan"],
        ["--min-confidence", "-1"],
        ["--drop", "1"],
        ["--drop", "inf"],
        ["--memory", "inf"],
        ["--memory", "0"],
        ["--focal", "wide"],
        ["--focal", "nan"],
        ["--focal", "-5"],
        ["--max-points", "0"],
        ["--frames", "1.5"],
        ["--size", "0"],
    ],
)
def test_impossible_values_are_refused_by_the_parser(place, tmp_path, capsys, arguments):
    """Exit code 2 and the argument's name, before anything is read."""
    with pytest.raises(SystemExit) as stopped:
        run(place, tmp_path / "none", "--out", tmp_path / "o", *arguments)
    assert stopped.value.code == cli.EXIT_USAGE
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[0]}" in error and "expected, got" in error


@pytest.mark.parametrize(
    "command",
    [["bench", "--views", "abc"], ["bench", "--views", "2,,4"], ["view", "--port", "70000"]],
)
def test_other_commands_refuse_impossible_values(capsys, command):
    """Numbers of views, ports."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == cli.EXIT_USAGE and "expected, got" in capsys.readouterr().err


def test_results_without_points_can_be_asked_for(place, tmp_path, capsys):
    """A warning with the count; text and JSON say what was dropped and why."""
    more = ["--min-confidence", "1e9", "--allow-empty", "--export", "ply", "--json"]
    assert run(place, place / "фото é", "--out", tmp_path / "o", *more) == 0
    told = capsys.readouterr()
    points = json.loads(told.out)["points"]
    assert points["kept"] == 0 and points["pixels"] == 3 * 16 * 24
    assert sum(points["dropped"].values()) == points["pixels"]
    assert "warning: no point is left: 0 of 1,152" in told.err
    assert run(place, tmp_path / "o", "--export", "ply", command="render") == 0
    assert "points kept (dropped: 116 least confident)" in capsys.readouterr().err


def test_what_is_passed_over_is_told(place, tmp_path, capsys):
    """Broken links, raw files and videos in a folder of photographs; a folder of videos alone."""
    mixed, videos = tmp_path / "mixed", tmp_path / "videos"
    for folder in (mixed, videos):
        folder.mkdir()
        (folder / "walk.mp4").write_bytes(b"x")
    for i in range(2):
        Image.new("RGB", (30, 20), (9 * i, 9, 9)).save(mixed / f"{i}.png")
    (mixed / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (mixed / "a.nef").write_bytes(b"x")
    assert run(place, mixed, "--out", tmp_path / "o", "--export", "npz") == 0
    told = capsys.readouterr().err
    for word in ("gone.jpg (broken links)", "a.nef (raw files", "1 videos (give them by their"):
        assert word in told
    assert run(place, videos, "--out", tmp_path / "p") == cli.EXIT_INPUT
    assert "holds no images" in (told := capsys.readouterr().err)
    assert "hint: it holds videos: give one by its name, such as" in told


def test_short_videos_are_taken_whole(place, tmp_path, capsys):
    """Fewer frames than the default: all of them, with a notice."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a.mp4"
    writer = imageio_ffmpeg.write_frames(str(path), (64, 48), fps=8, macro_block_size=2)
    writer.send(None)
    for i in range(3):
        writer.send(np.full((48, 64, 3), 60 * i, np.uint8))
    writer.close()
    assert run(place, path, "--out", tmp_path / "o", "--export", "npz") == 0
    assert "has 3 frames; all are taken, where 12 were wanted" in capsys.readouterr().err
    assert len(Scene.load(tmp_path / "o").names) == 3


@pytest.mark.parametrize(
    "name", [b"caf\xe9_%d.png", b"-%d.png", b'a "b" %d\n.png', "写真%d.png".encode()]
)
def test_any_name_of_a_file_system(place, tmp_path, name):
    """Every format is written, in UTF-8, and names the photographs alike."""
    for i in range(2):
        path = os.fsencode(tmp_path / "in") + b"/" + name.replace(b"%d", b"%d" % i)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            Image.new("RGB", (30, 20), (90 * i, 9, 9)).save(file, "PNG")
    formats = "ply,glb,3dgs,colmap-text,nerfstudio,npz,cameras,preview,html"
    assert run(place, tmp_path / "in", "--out", tmp_path / "o", "--export", formats) == 0
    frames = json.loads((tmp_path / "o/nerfstudio/transforms.json").read_text("utf-8"))["frames"]
    rows = (tmp_path / "o/colmap_text/sparse/0/images.txt").read_text("utf-8").splitlines()[2::2]
    assert len(frames) == len(rows) == len(Scene.load(tmp_path / "o").names) == 2
    for row in rows:
        written, given = (tmp_path / "o/images") / row.split()[9], tmp_path / "in" / row.split()[9]
        assert written.is_file() or given.is_file()
    cameras = tmp_path / "o" / "cameras.json"
    more = ["--cameras", cameras, "--use", "intrinsics", "--export", "npz"]
    assert run(place, tmp_path / "in", "--out", tmp_path / "p", *more) == 0


def test_hints_are_ours():
    """Notes that JAX adds to exceptions on their way are not shown."""
    console = Console()
    shown = []
    console.fail = lambda text, *hints: shown.extend(hints)
    error = ValueError("x")
    error.add_note("--------------------\nFor simplicity, JAX has removed its internal frames")
    error.add_note("give another file")
    assert cli._explain(error, console) == cli.EXIT_INPUT and shown == ["give another file"]


def test_missing_weights_have_a_hint(place, tmp_path, capsys):
    """The message names the weights and where they are looked for."""
    argv = ["reconstruct", str(place / "фото é"), "--out", str(tmp_path / "o"), "--weights", "none"]
    assert cli.main(argv) == cli.EXIT_INPUT
    error = capsys.readouterr().err
    assert "no weights 'none'" in error and "hint: give a file with --weights" in error


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
    (tmp_path / "mine").rmdir()
    assert run(place, place / "фото é", "--out", tmp_path / "thesis.txt") == cli.EXIT_INPUT
    assert "is a file" in capsys.readouterr().err
    assert run(place, place / "фото é", "--out", tmp_path / "thesis.txt" / "x") == cli.EXIT_INPUT
    assert "Traceback" not in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["thesis.txt"]


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
    (out / "scene.glb").write_text("user")
    assert run(place, out, "--export", "glb", command="render") == cli.EXIT_INPUT
    assert "scene.glb: not written by this program" in capsys.readouterr().err
    assert (out / "scene.glb").read_text() == "user"


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
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["o"]
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(place, tmp_path, capsys):
    """Only when it is asked for."""
    run(place, tmp_path / "no.png", "--out", tmp_path / "o", "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_bench_measures(tmp_path, capsys):
    """The row of a number of views has a positive time and a share of the matmul rate."""
    arguments = ["--variant", "tiny", "--views", "2", "--size", "32", "--repeats", "1", "--json"]
    assert cli.main(["bench", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["V"] for row in result["rows"]] == [2] and result["machine"]["processor"]
    assert all(row["run s"] > 0 and 0 < row["of matmul"] < 2 for row in result["rows"])


@pytest.mark.parametrize("command", [[], *[[name] for name in cli.COMMANDS]])
def test_help_has_examples(command, capsys):
    """Every command explains itself."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "mvdust3r" in text and (not command or "examples:\n  mvdust3r" in text)


def test_runs_as_a_module(tmp_path):
    """`python -m mvdust3r_jax.cli` hands the exit code on."""
    command = [sys.executable, "-m", "mvdust3r_jax.cli", "render", str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == cli.EXIT_INPUT


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("224x320", (224, 320)), ("a", None), ("1x2x3", None)]
)
def test_size_argument(text, size):
    """One number or two."""
    if size:
        assert values.size(text) == size
    else:
        with pytest.raises(Exception, match="224x320"):
            values.size(text)


def test_names_stay_apart(tmp_path):
    """Photographs of the same name in two folders get their folder's name, else a number."""
    a, b = tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"
    assert inputs.unique_names([a, b]) == ["a_1.jpg", "b_1.jpg"]
    assert inputs.unique_names([a, a]) == ["0000_a_1.jpg", "0001_a_1.jpg"]
    assert inputs.unique_names([a]) == ["1.jpg"]


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


def test_interrupted_while_it_starts():
    """Ctrl-C while JAX is being imported: one word and code 130, not a traceback."""
    command = [sys.executable, "-X", "importtime", "-m", "mvdust3r_jax.cli", "view", "none"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The interpreter names each module that is done: the first of JAX's says how far it is.
    while "jax._src" not in (line := started.stderr.readline()):
        assert line, "the program ended before it imported JAX"
    started.send_signal(signal.SIGINT)
    err = started.communicate(timeout=60)[1]
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    # A library that guards an import of its own may swallow the signal: then the input is missed.
    assert started.returncode in (cli.EXIT_INPUT, cli.EXIT_INTERRUPTED), said
    swallowed = started.returncode == cli.EXIT_INPUT
    assert swallowed or said == ["error: interrupted"], said


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


def test_says_what_it_did_and_what_comes_next(place, tmp_path, capsys):
    """Counts, the reference, time and memory, and a next command that the shell takes as it is."""
    out = tmp_path / "my scene"
    assert run(place, place / "фото é", "--out", out, "--export", "ply") == 0
    said = capsys.readouterr().err.splitlines()
    assert "photographs found" in said[-5]
    assert said[-4] == "the reference, whose camera is the world: 0 a.png"
    assert "s in all" in said[-2] and "GiB of memory" in said[-2]
    next_command = shlex.split(said[-1].removeprefix("next: "))
    assert next_command == ["mvdust3r", "view", str(out)]


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


def test_scenes_and_photographs_are_not_viewed_together(place, tmp_path, capsys):
    """Scene folders and files are found by name; a photograph among them is refused in a line."""
    pytest.importorskip("viser")
    run(place, place / "фото é", "--out", tmp_path / "a", "--export", "ply")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.copy(tmp_path / "a" / "scene.npz", tmp_path / "c.npz")
    given = [str(tmp_path / "a"), str(tmp_path / "b" / "scene.npz"), str(tmp_path / "c.npz")]
    assert list(view.saved_scenes(given)) == ["a", "b", "c"]
    assert view.saved_scenes(["no such folder"]) == {}
    capsys.readouterr()
    assert cli.main(["view", given[0], str(place / "фото é")]) == cli.EXIT_USAGE
    assert "is no saved scene; give scenes or photographs" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_ports_that_are_none_are_refused_by_the_parser(port, capsys):
    """Exit code 2, and the port is named."""
    with pytest.raises(SystemExit) as refused:
        cli.main(["view", f"--port={port}"])
    assert refused.value.code == cli.EXIT_USAGE
    assert repr(port) in capsys.readouterr().err


def test_view_says_at_once_where_it_cannot_listen(capsys):
    """The host is named in one line, exit code 2, and no network was loaded for it."""
    pytest.importorskip("viser")
    assert cli.main(["view", "--host", "999.1.1.1", "--weights", "none"]) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "999.1.1.1" in error and error.count("\n") == 1
