"""Videos: the frames that were drawn, in their colors and size, or an error in words."""

import itertools
import subprocess
import time

import numpy as np
import pytest

from mvdust3r_jax import export
from mvdust3r_jax.export import camera_paths, drawing, video
from mvdust3r_jax.media import ffmpeg
from tests.export_scene import box_room


def test_video_has_the_frames_that_were_rendered(tmp_path, scene):
    """ffmpeg decodes the file to as many frames, of that size and nearly those colors."""
    small = box_room(2, height=16, width=24)
    poses = camera_paths.fly_through(small, 3)
    frames = list(drawing.render_path(small, poses, longest_px=48))
    assert len(frames) == 4 and frames[0].shape == (32, 48, 3)
    video.write_mp4(tmp_path / "v.mp4", frames, fps=10)
    command = [ffmpeg.program(), "-v", "error", "-i", str(tmp_path / "v.mp4"), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    decoded = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 32, 48, 3)
    assert len(decoded) == 4
    # Lossy, and color at half resolution: a mean error of a few levels is what H.264 leaves.
    assert np.abs(decoded.astype(int) - np.stack(frames)).mean() < 8


def test_enlarged_frames_show_a_point_in_its_place():
    """One dark Gaussian before white ones: twice as large, pixel u is drawn about 2 u + 1/2."""
    room, row, column = box_room(2, height=16, width=24), 5, 15
    room.images_01[...] = 1
    room.images_01[0, row, column] = 0
    room.points[0, row, column] *= 0.5  # the world is the first camera's: nearer along the ray
    room.gaussians.scales[0, row, column] = 0.05
    poses = np.repeat(room.world_from_cam[:1], 4, axis=0)
    frame = next(drawing.render_path(room, poses, longest_px=48))
    dark = 255.0 - frame[..., 0]
    middle = [np.average(np.arange(n), weights=dark.sum(axis)) for axis, n in ((0, 48), (1, 32))]
    # A twentieth: levels are whole numbers.
    np.testing.assert_allclose(middle, [2 * column + 0.5, 2 * row + 0.5], atol=0.05)


# imageio-ffmpeg leaves the pipes of its reader to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_says_its_colors_and_has_the_size_asked_for(tmp_path):
    """A reader finds BT.709 tags, and with them the colors that went in; frames are enlarged."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    color = np.array([200, 40, 90], np.uint8)  # 10 levels off by the matrix of BT.601
    frames = [np.broadcast_to(color, (16, 24, 3))] * 3
    video.write_mp4(tmp_path / "v.mp4", frames, size=(32, 48))
    reader = imageio_ffmpeg.read_frames(tmp_path / "v.mp4")
    meta = next(reader)
    assert meta["size"] == (48, 32) and "bt709" in meta["pix_fmt"] and "(tv" in meta["pix_fmt"]
    decoded = np.frombuffer(next(reader), np.uint8).reshape(32, 48, 3)
    reader.close()
    assert np.abs(decoded.astype(int) - color).max() <= 3


def test_frames_are_drawn_in_parts_and_enlarged(tmp_path, monkeypatch):
    """As many frames as poses, each as if drawn alone; a video is drawn no larger than need be."""
    small = box_room(2, height=16, width=24)
    poses = camera_paths.fly_through(small, 4)
    monkeypatch.setattr(drawing, "cameras_at_once", lambda height, width: 3)
    frames = np.stack(list(drawing.render_path(small, poses, longest_px=24)))
    alone = [next(drawing.render_path(small, poses[[i]], longest_px=24)) for i in (0, 4)]
    np.testing.assert_allclose(frames[[0, 4]].astype(int), alone, atol=1)
    assert len(frames) == 5
    drawn = []

    def draw(scene, poses, longest_px, fovs_deg):
        drawn.append(longest_px)
        return frames[: len(poses)]

    monkeypatch.setattr(video, "render_path", draw)
    larger = box_room(2, height=80, width=120)
    for number, (scene, asked) in enumerate(((small, 480), (small, 64), (larger, 480))):
        video.write_videos(tmp_path / f"{number}", scene, num_frames=2, longest_px=asked)
    assert drawn[::2] == [192, 64, 240]


def test_frames_are_drawn_a_few_ahead_in_order_and_an_error_arrives():
    """However long each takes; what is not asked for is not begun."""
    begun = []

    def slow_at_first(number):
        begun.append(number)
        time.sleep(0.1 * (number == 0))
        if number == 6:
            raise RuntimeError("the seventh")
        return number

    results = drawing._called_at_once(slow_at_first, [(i,) for i in range(9)], 3)
    assert next(results) == 0 and max(begun) <= 3
    assert list(itertools.islice(results, 5)) == [1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="the seventh"):
        next(results)


def test_failed_encoding_leaves_no_file(tmp_path):
    """A frame size that H.264 cannot hold is an error in words, and no file is left."""
    with pytest.raises(RuntimeError, match="ffmpeg could not encode"):
        video.write_mp4(tmp_path / "v.mp4", [np.zeros((3, 5, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


def test_an_ffmpeg_that_cannot_be_run_is_told_before_anything_is_drawn(monkeypatch):
    """`export.check` asks for it; the run would be lost at its end."""
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    with pytest.raises(FileNotFoundError, match="/nowhere/ffmpeg .* is no ffmpeg"):
        export.check(["mp4"])
    export.check(["ply"])
