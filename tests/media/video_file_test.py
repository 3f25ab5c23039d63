"""What a video file holds: any number of its frames, the right track, what is missing of it."""

import subprocess

import numpy as np
import pytest

from mvdust3r_jax.media import ffmpeg, video_file, video_frames
from mvdust3r_jax.media.kinds import ImageError
from tests.media.clips import encoded

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


def copied(sources, path, *options):
    """The tracks of several videos in one file."""
    inputs = [word for source in sources for word in ("-i", str(source))]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *inputs]
    subprocess.run([*command, *options, "-c", "copy", str(path)], check=True)
    return path


@pytest.mark.parametrize("count", [100, 101, 250])
def test_hundreds_of_frames(tmp_path, count):
    """Above 100 every video was called damaged: ffmpeg limits the depth of an expression."""
    path = encoded(tmp_path / "a.mp4", 260)
    frames = video_frames.read_frames(path, count, "even")
    numbers = [int(frame.name.rpartition("_")[2]) for frame in frames]
    assert len(numbers) == count and numbers == sorted(set(numbers))
    shown = [frame.pixels.mean() for frame in frames]
    np.testing.assert_allclose(shown, [100 + number % 100 for number in numbers], atol=4)


def test_ffmpeg_is_quoted_where_frames_cannot_be_decoded(tmp_path):
    """Its own complaint stands beside how many frames there are."""
    video = video_file.probe(encoded(tmp_path / "a.mp4"))
    with pytest.raises(ImageError, match=r"a\.mp4 is damaged: 1 of 2 frames") as caught:
        video_file.frames(video, [3, 500], 32, 32, deep=False)
    assert not getattr(caught.value, "__notes__", [])
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    with pytest.raises(ImageError, match=r"a\.mp4 is damaged: 0 of 1 frames") as caught:
        video_file.frames(video, [3], 32, 32, deep=False)
    assert caught.value.__notes__[0].startswith("ffmpeg says: ")


def test_a_writer_that_ends_at_once_is_quoted(monkeypatch):
    """Not the pipe that broke, when bytes that were kept back are flushed at the end."""
    monkeypatch.setattr(ffmpeg, "program", lambda: "/bin/false")
    for size in (100, 1 << 20):
        with pytest.raises(RuntimeError, match="ffmpeg could not encode: it ended with code 1"):
            ffmpeg.write([memoryview(bytes(size))] * 3, task="encode")


@pytest.mark.parametrize("marked", [0, 1])
def test_the_track_that_is_marked_default_is_shown(tmp_path, marked):
    """As players do, whichever comes first in the file."""
    sources = [encoded(tmp_path / f"{i}.mp4", value=20 + 120 * i) for i in range(2)]
    told = ["-map", "0:v", "-map", "1:v", f"-disposition:v:{1 - marked}", "0"]
    path = copied(sources, tmp_path / "two.mov", *told, f"-disposition:v:{marked}", "default")
    frame = video_frames.read_frames(path, 1, "even")[0]
    np.testing.assert_allclose(frame.pixels.mean(), 24 + 120 * marked, atol=4)


@pytest.mark.parametrize("box", [b"moov", b"stsd"])
def test_a_half_copied_video_is_called_incomplete(tmp_path, box):
    """The index of an MP4 stands at its end: the last complaint was about something else."""
    data = encoded(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: data.index(box)])
    with pytest.raises(
        ImageError, match=r"a\.mp4 cannot be read as a video: it is incomplete"
    ) as told:
        video_frames.read_frames(tmp_path / "a.mp4", 2)
    assert "MP4" not in told.value.__notes__[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("a.ts", "mpegts"), ("a.TS", "mpegts"), ("a.m2t", "mpegts"), ("a", "mp4")),
        *(("a.insv", "mp4"), ("a.lrv", "mp4"), ("a.3g2", "mp4"), ("a", "matroska"), ("a", "avi")),
        *(("a.wmv", "asf"), ("a.flv", "flv"), ("a.ogv", "ogg"), ("a.vob", "vob"), ("a", "mpegts")),
    ],
)
def test_endings_of_videos(tmp_path, name, kind):
    """By ending, or by content where it does not tell; all are decoded."""
    coder = {"ogg": "libtheora", "asf": "wmv2", "flv": "flv", "vob": "mpeg2video"}
    options = ["-vf", "scale=64:48", "-c:v", coder.get(kind, "mpeg4"), "-r", "25", "-f", kind]
    path = encoded(tmp_path / name, options=options)
    assert video_frames.is_video(path)
    assert len(video_frames.read_frames(path, 2)) == 2


def test_what_is_no_video_by_its_content(tmp_path):
    """TypeScript has the ending of a transport stream; files without an ending may be anything."""
    for name, content in (("a.ts", b"export const a = 1\n" * 40), ("a", b""), ("b", b"GIF89a")):
        (tmp_path / name).write_bytes(content)
        assert not video_frames.is_video(tmp_path / name)
    assert not video_frames.is_video(tmp_path)
