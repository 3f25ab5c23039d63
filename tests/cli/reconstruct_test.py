"""`reconstruct`: photographs and videos of any kind in, all results out, and what is told of it."""

import json
import os
import shlex

import numpy as np
import pycolmap
import pytest
from PIL import Image

from mvdust3r_jax import cli
from mvdust3r_jax.cameras.known import read_cameras
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.cli.reconstruct import say_views
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.manifest import MANIFEST
from tests.cli.place import CONFIG, run


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


def test_cameras_that_nothing_matches_are_not_refined(place, tmp_path, capsys):
    """Photographs of noise: the result is there, and the reason."""
    arguments = ["--out", tmp_path / "o", "--export", "npz", "--refine", "--json"]
    assert run(place, place / "фото é", *arguments) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)["refinement"]
    assert told["refined"] == [False] * 3 and told["error_px"] is None
    assert f"cameras not refined: {told['why']}" in said.err


def test_what_stops_refining_loses_nothing(place, tmp_path, capsys, monkeypatch):
    """The network's scene is written, and the line says what happened."""

    def stops(*args):
        raise RuntimeError("Check failed: rows == 3\nbacktrace")

    monkeypatch.setattr(pycolmap, "FeatureExtractionOptions", stops)
    arguments = ["--out", tmp_path / "o", "--export", "npz", "--refine"]
    assert run(place, place / "фото é", *arguments) == 0
    assert (tmp_path / "o" / "scene.npz").exists()
    told = "cameras not refined: pycolmap stopped with 'Check failed: rows == 3'"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "trained, views, window, told",
    [(8, 9, None, "--window 4"), (8, 8, None, ""), (8, 9, 8, ""), (None, 99, None, "")],
)
def test_more_views_than_it_was_trained_on(capsys, trained, views, window, told):
    """Windows are proposed, unless they are asked for already or nothing is known."""
    model = Model(CONFIG, {}, (16, 24), "few", trained)
    say_views(model, views, window, Console(quiet=False))
    said = capsys.readouterr().err
    assert told in said and bool(said) == bool(told)


def test_every_flag_reaches_the_library(place, tmp_path, monkeypatch):
    """Values that are no defaults, all in one command; the reconstruction itself is left out."""
    asked = {}

    def stop(sources, model, **given):
        asked.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("mvdust3r_jax.cli.reconstruct.reconstruct", stop)
    photos = sorted((place / "фото é").iterdir())
    photos = [*photos, *(tmp_path / f"{i}.png" for i in (3, 4))]
    (tmp_path / "masks").mkdir()
    for path in photos:
        Image.new("RGB", (30, 20)).save(tmp_path / "masks" / path.name)
    for path in photos[3:]:
        Image.new("RGB", (30, 20)).save(path)
    poses = np.tile(np.eye(4), (len(photos), 1, 1))
    poses[:, 0, 3] = range(len(photos))
    frames = [
        {"file_path": path.name, "transform_matrix": pose.tolist()}
        for path, pose in zip(photos, poses, strict=True)
    ]
    (tmp_path / "c.json").write_text(json.dumps({"frames": frames}))
    flags = "--reference 2 --refs 3 --window 3 --window-by likeness --size 24x32 --fit pad"
    flags += " --mirrored --focal 500 --use poses --memory 3 --out"
    paths = ["--masks", tmp_path / "masks", "--cameras", tmp_path / "c.json"]
    paths += ["--keep-windows", tmp_path / "kept"]
    assert run(place, *photos, *paths, *flags.split(), tmp_path / "o") == cli.EXIT_INTERRUPTED
    del asked["progress"], asked["advance"]
    np.testing.assert_array_equal(asked.pop("cameras").world_from_cam[:, 0, 3], poses[:, 0, 3])
    assert asked == {
        "reference": 2,
        "num_refs": 3,
        "mirrored": True,
        "window": 3,
        "window_by": "likeness",
        "kept_in": tmp_path / "kept",
        "size": (24, 32),
        "fit": "pad",
        "focal_px": 500,
        "masks": [tmp_path / "masks" / path.name for path in photos],
        "memory_limit": 3 << 30,
    }


def test_quiet_says_nothing(place, tmp_path, capsys):
    """Neither on stdout nor on stderr."""
    assert run(place, place / "фото é", "--out", tmp_path / "o", "--quiet", "--export", "npz") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


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
    for word in ("gone.jpg (broken links)", "a.nef (raw files", "1 video (give them by their"):
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
    given = [str(path) for path in (tmp_path / "in").iterdir()]
    known = read_cameras(tmp_path / "o" / "cameras.json", given, "intrinsics")
    assert known.intrinsics.shape == (2, 3, 3)


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


def test_values_of_few_bits_in_large_files_are_told(place, tmp_path, capsys):
    """12 bits as cameras of machines save them: next to black, which nothing else would say."""
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 4095, (40, 60), np.uint16)).save(tmp_path / f"{i}.png")
    assert run(place, tmp_path, "--out", tmp_path / "out", "--export", "cameras", "--quiet") == 0
    assert "warning: all photographs are almost black" in capsys.readouterr().err
