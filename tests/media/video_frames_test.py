"""Frames of videos: how many, which, upright; and what is no video."""

import subprocess

import numpy as np
import pytest

from mvdust3r_jax.media import video_frames
from mvdust3r_jax.media.kinds import ImageError

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds of 64x48 whose brightness counts the frames, in a path with spaces."""
    path = tmp_path_factory.mktemp("clips") / "a clip é.mp4"
    writer = imageio_ffmpeg.write_frames(str(path), (64, 48), fps=10, macro_block_size=2)
    writer.send(None)
    for i in range(20):
        writer.send(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.close()
    return path


def brightness(frames):
    return [float(f.pixels.mean()) / 10 for f in frames]


def test_even_frames(video):
    """The middles of equal parts, named by their number, in order."""
    frames = video_frames.read_frames(video, 4, "even")
    np.testing.assert_allclose(brightness(frames), [2, 7, 12, 17], atol=0.5)
    assert [f.name for f in frames] == [f"a clip é_{i:06d}" for i in (2, 7, 12, 17)]
    assert frames[0].pixels.shape == (48, 64, 3) and frames[0].original_size == (48, 64)


def test_rotated_videos_are_upright(video, tmp_path):
    """A phone's rotation tag turns the frames."""
    turned = tmp_path / "turned.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90"]
    subprocess.run([*command, "-i", str(video), "-c", "copy", str(turned)], check=True)
    assert video_frames.read_frames(turned, 2)[0].pixels.shape == (64, 48, 3)


def test_sharpest_frame_of_each_part():
    """Blurred frames are passed over; every part gives one frame, in order."""
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 255, (12, 16, 16)).astype(np.uint8)
    blurred = np.ones(12, bool)
    blurred[[1, 6, 10]] = False
    thumbs[blurred] = thumbs[blurred] // 8 + 100
    chosen = video_frames.choose_sharp(thumbs, 3)
    assert chosen == sorted(set(chosen)) and {1, 10} < set(chosen)


def test_parts_have_equal_change():
    """A camera that stands still most of the time gives most frames where it moves."""
    ramp = np.concatenate([np.zeros(50), np.arange(50)]).astype(np.uint8)
    thumbs = np.broadcast_to(ramp[:, None, None], (100, 8, 8))
    assert sum(i >= 50 for i in video_frames.choose_sharp(thumbs, 10)) >= 8


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("total", [7, 20])
def test_any_number_of_frames(total, count):
    """Standing scenes and as many parts as frames: distinct frames in order."""
    for thumbs in (np.zeros((total, 4, 4), np.uint8), np.eye(total, 16, dtype=np.uint8) * 200):
        chosen = video_frames.choose_sharp(thumbs.reshape(total, 4, 4), count)
        assert len(set(chosen)) == count and chosen == sorted(chosen) and chosen[-1] < total
    assert len(set(video_frames.choose_even(total, count))) == count
    standing = np.concatenate([[0], np.full(total - 1, 9.0), [9.1]])
    chosen = video_frames.even_in_time(standing, count)
    assert len(set(chosen)) == count and chosen == sorted(chosen) and chosen[-1] < total


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "playlist", "list"])
def test_what_is_no_video_is_named(video, tmp_path, kind):
    """Empty, foreign and truncated files, and playlists that name other files."""
    content = {
        "empty": b"",
        "text": b"hello" * 100,
        "cut": video.read_bytes()[:300],
        "list": b"ffconcat version 1.0\nfile other.mp4\n",
        "playlist": f"#EXTM3U\n#EXTINF:1,\nfile://{video}\n".encode(),
    }[kind]
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    (tmp_path / "other.mp4").write_bytes(video.read_bytes())
    with pytest.raises(ImageError, match="x.mp4 cannot be read as a video"):
        video_frames.read_frames(path, 2)


def test_too_few_frames_and_wrong_requests(video, tmp_path):
    """More frames than there are: all of them; missing files; unknown ways to choose."""
    for choice in video_frames.CHOICES:
        assert len(video_frames.read_frames(video, 50, choice)) == 20
    with pytest.raises(FileNotFoundError, match="no video at"):
        video_frames.read_frames(tmp_path / "a.mp4", 2)
    with pytest.raises(ValueError, match="even, sharp"):
        video_frames.read_frames(video, 2, "best")
