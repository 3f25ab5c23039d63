"""Damaged files of every kind through the command line (helper of fuzz_test; longer by hand).

    python tests/fuzzing.py 500 [SEED]

Each file is cut, gets bits flipped, or has fields exchanged. What must come out: a result with
points, or one line that begins with "error: " and exit code 1.
"""

import contextlib
import functools
import io
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mvdust3r_jax import ModelConfig, cli  # noqa: E402
from mvdust3r_jax.cli import inputs  # noqa: E402
from mvdust3r_jax.models.mvdust3r import abstract_variables  # noqa: E402
from mvdust3r_jax.reconstruction import machine  # noqa: E402
from mvdust3r_jax.weights import files as weight_files  # noqa: E402
from tests.cameras.camera_files import (  # noqa: E402
    poses,
    transforms,
    write_colmap_binary,
    write_colmap_text,
    write_json,
)
from tests.export_scene import box_room  # noqa: E402

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)
FORMATS = ("jpg", "png", "webp", "tif", "gif", "bmp", "avif", "ppm")
LIMIT_S = 60
SCENE_FORMATS = "ply,glb,3dgs,colmap,nerfstudio,cameras,preview,html"


def write_originals(place):
    """Two photographs, and one good file of every kind."""
    rng = np.random.default_rng(0)
    (place / "photos").mkdir(parents=True)
    smooth = np.add.outer(np.arange(40), 2 * np.arange(60))[..., None] * [1, 1.2, 0.5]
    for i in range(2):
        Image.fromarray((smooth + 40 * i).astype(np.uint8)).save(place / "photos" / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    for suffix in FORMATS:
        options = {"exif": exif} if suffix in ("jpg", "png", "webp", "tif", "avif") else {}
        Image.fromarray(smooth.astype(np.uint8)).save(place / f"photograph.{suffix}", **options)
    keep = np.zeros((40, 60), np.uint8)
    keep[:, :30] = 255
    Image.fromarray(keep).save(place / "mask.png")
    Image.fromarray(np.dstack([smooth.astype(np.uint8), keep])).save(place / "mask.tif")
    names = ["0.png", "1.png"]
    fields = {"fl_x": 50.0, "fl_y": 50.0, "cx": 30.0, "cy": 20.0, "w": 60, "h": 40}
    write_json(place / "cameras.json", transforms(poses(2), names, **fields))
    for kind, write in (("text", write_colmap_text), ("binary", write_colmap_binary)):
        write(place / f"colmap_{kind}", poses(2), names, (40, 60), params=(50, 50, 30, 20))
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    for suffix in ("safetensors", "pth"):
        weight_files.save_weights(
            place / f"weights.{suffix}", variables, CONFIG, image_size=(16, 24)
        )
    box_room(2, height=16, width=24).save_arrays(place / "scene.npz")
    _write_video(place / "video.mp4")


def _write_video(path):
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(str(path), (64, 48), fps=10, macro_block_size=2)
    writer.send(None)
    for i in range(6):
        writer.send(np.full((48, 64, 3), 30 * i, np.uint8))
    writer.close()


def kinds(place):
    """Each kind: the file to damage, and the arguments of the command that reads it."""
    weights = ["--weights", place / "weights.safetensors"]
    photos, out = place / "photos", ["--out", "{out}", "--export", "ply", "--json"]
    common = ["reconstruct", photos, *weights, *out]
    result = {
        f"photograph.{suffix}": ["reconstruct", "{file}", photos, *weights, *out]
        for suffix in FORMATS
    }
    result["video.mp4"] = ["reconstruct", "{file}", "--frames", "2", *weights, *out]
    for name in ("mask.png", "mask.tif"):
        result[name] = [*common, "--masks", "{masks}"]
    result["cameras.json"] = [*common, "--cameras", "{file}"]
    for name in ("colmap_text/images.txt", "colmap_text/cameras.txt"):
        result[name] = [*common, "--cameras", "{folder}"]
    for name in ("colmap_binary/images.bin", "colmap_binary/cameras.bin"):
        result[name] = [*common, "--cameras", "{folder}"]
    for name in ("weights.safetensors", "weights.pth"):
        result[name] = ["reconstruct", photos, "--weights", "{file}", *out]
    result["scene.npz"] = ["render", "{scene}", "--export", SCENE_FORMATS, "--json"]
    return result


def damaged(path, rng):
    """The file's bytes after one of three kinds of damage, and which."""
    data = bytearray(path.read_bytes())
    how = ("cut", "flipped", "exchanged")[rng.integers(3)]
    if how == "cut":
        return bytes(data[: rng.integers(len(data))]), how
    if how == "exchanged" and path.suffix == ".json":
        return _exchanged_json(json.loads(data), rng), how
    if how == "exchanged" and path.suffix == ".npz":
        return _exchanged_npz(path, rng), how
    if how == "exchanged":
        size = int(rng.integers(1, max(2, len(data) // 4)))
        a, b = sorted(rng.integers(0, max(1, len(data) - size), 2))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
        return bytes(data), how
    # Heads hold what programs trip over, so half of the flips are there.
    for _ in range(int(rng.integers(1, 12))):
        end = len(data) if rng.random() < 0.5 else min(len(data), 200)
        data[rng.integers(end)] ^= 1 << rng.integers(8)
    return bytes(data), how


ODD = [None, -1, 0, 1e308, float("nan"), "x", [], {}, [[1, 2], [3]], True, 10**400]


def _exchanged_json(content, rng):
    """One value, anywhere, becomes another one of the file or an odd one."""
    places = list(_places(content))
    holder, key = places[rng.integers(len(places))]
    other, name = places[rng.integers(len(places))]
    odd = ODD[rng.integers(len(ODD))]
    holder[key] = odd if rng.random() < 0.6 else json.loads(json.dumps(other[name]))
    return json.dumps(content).encode()


def _places(node):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _exchanged_npz(path, rng):
    """Two arrays change places, one is gone, or one has odd values or another shape."""
    with np.load(path) as stored:
        arrays = dict(stored)
    a, b = (str(name) for name in rng.choice(list(arrays), 2, replace=False))
    change = rng.integers(5)
    if change == 0:
        arrays[a], arrays[b] = arrays[b], arrays[a]
    elif change == 1:
        del arrays[a]
    elif change == 2 and arrays[a].dtype.kind == "f":
        arrays[a] = np.full_like(arrays[a], rng.choice([np.nan, np.inf, -1e30, 0]))
    elif change == 3:
        arrays[a] = arrays[a][..., :1] if arrays[a].ndim else np.array("{}")
    else:
        arrays[a] = arrays[a].astype(str)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class TooLong(BaseException):
    """A run that does not end."""


def run_one(place, name, command, rng, work):
    """Damage a file and run its command; (how, exit code, what is wrong with the outcome or '')."""
    data, how = damaged(place / name, rng)
    shutil.rmtree(work, ignore_errors=True)
    folder = work / "given"
    folder.mkdir(parents=True)
    if "/" in name:
        shutil.copytree((place / name).parent, folder, dirs_exist_ok=True)
    file = folder / Path(name).name
    if name.startswith("mask"):
        for i in range(2):
            (folder / f"{i}{file.suffix}").write_bytes(data)
    file.write_bytes(data)
    places = {"file": file, "masks": folder, "folder": folder, "scene": folder, "out": work / "out"}
    arguments = [str(a).format(**places) if isinstance(a, str) else str(a) for a in command]
    out, err = io.StringIO(), io.StringIO()
    # The processor's time, not the clock's: other programs may run beside.
    previous = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments)
    except TooLong:
        return how, None, f"took longer than {LIMIT_S} s of the processor"
    except SystemExit as stopped:
        code = stopped.code
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    return how, code, _wrong(code, out.getvalue(), err.getvalue(), work)


def _too_long(*_):
    raise TooLong


def _wrong(code, out, err, work):
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if "Traceback" in err or code not in (0, 1):
        return f"exit code {code}: {err.strip().splitlines()[-3:]}"
    if code == 1:
        if (work / "out").exists():
            return "an output in spite of the error"
        return "" if len(errors) == 1 else f"{len(errors)} lines of errors"
    kept = json.loads(out)["points"]["kept"]
    return "" if kept > 0 else "a result without points"


@contextlib.contextmanager
def _quick(folder):
    """Undamaged weights are loaded once, and the machine's speed is not measured each time."""
    load = inputs.load_model
    kept = functools.cache(load)

    def loaded(path, *more):
        return (kept if Path(path).parent == folder / "originals" else load)(path, *more)

    rate = mock.patch.object(machine, "flops_per_second", lambda *_, **__: 1e10)
    with rate, mock.patch.object(inputs, "load_model", loaded):
        yield


def fuzz(count, seed=0, say=lambda text: None):
    """Run ``count`` damaged files; lines on those that went wrong, and counts by kind."""
    rng, wrong, counts = np.random.default_rng(seed), [], Counter()
    with tempfile.TemporaryDirectory() as folder, _quick(Path(folder)):
        place = Path(folder) / "originals"
        write_originals(place)
        commands = kinds(place)
        for number in range(count):
            name = list(commands)[number % len(commands)]
            begin = time.perf_counter()
            how, code, what = run_one(place, name, commands[name], rng, Path(folder) / "work")
            seconds = time.perf_counter() - begin
            counts[name, code] += 1
            say(f"{number} {name} {how} {code} {seconds:.1f} s {what}")
            if what:
                wrong.append(f"{number} {name} ({how}): {what}")
    return wrong, counts


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    amount, start = int(sys.argv[1]), int((*sys.argv, 0)[2])
    faults, table = fuzz(amount, start, lambda text: print(text, flush=True))
    for (kind, exit_code), number in sorted(table.items(), key=str):
        print(f"{kind:28s} exit {exit_code}: {number}")
    print(f"{len(faults)} of {amount} went wrong", *faults, sep="\n")
