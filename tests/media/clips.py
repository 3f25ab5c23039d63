"""Small videos whose brightness tells their frames, or their times (test helper)."""

import subprocess

import numpy as np
import pytest


def encode(path, frames, kind, *options, rate=10):
    """Write frames [n, h, w, 3] with ffmpeg; kind is their layout in memory."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    height, width = frames.shape[1:3]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo"]
    command += ["-pix_fmt", kind, "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    command += [*options, str(path)]
    subprocess.run(command, input=np.ascontiguousarray(frames).tobytes(), check=True)
    return path


def encoded(path, count=8, value=100, options=()):
    """A video of 32 x 32 gray frames whose brightness is ``value`` plus their number."""
    return encode(path, _gray(value + np.arange(count) % 100), "rgb24", *options)


def uneven(path):
    """30 frames a second for two seconds, then two for ten; brightness is 20 a second."""
    times = np.concatenate([np.arange(60) / 30, 2 + np.arange(20) / 2])
    setpts = "setpts='if(lt(N,60),N/30,2+(N-60)/2)/TB'"
    options = ["-vf", setpts, "-fps_mode", "passthrough", "-c:v", "libx264", "-bf", "0"]
    return encode(path, _gray(20 * times), "rgb24", *options, rate=30)


def _gray(values):
    frames = np.broadcast_to(values[:, None, None, None], (len(values), 32, 32, 3))
    return frames.astype(np.uint8)
