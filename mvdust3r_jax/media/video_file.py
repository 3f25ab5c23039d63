"""What a video file holds, decoded by ffmpeg.

Frames come out as a player shows them: turned by the display matrix (which ffmpeg does), with
square pixels, interlaced ones as whole frames. Their colors are still coded as in the file: see
`tone`.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np

from mvdust3r_jax.media import ffmpeg, panoramas
from mvdust3r_jax.media.kinds import ImageError

# Without a tag, players take the matrix of standard definition up to this size.
_STANDARD_WIDTH, _STANDARD_HEIGHT = 1279, 576
# Tracks of pictures that ffmpeg does not count as moving ones either.
_NO_FILM = r"\((attached pic|timed thumbnails)\)"
# What ffmpeg says where an MP4 lacks (part of) its index, which most writers put at the end.
_SIGNS_OF_CUT = ("moov atom not found", "Video: none, none")
# Codings of color that are no matrix ffmpeg can undo.
_OTHER_SPACES = ("ictcp", "ipt-c2", "bt2020c", "chroma-derived-c")


@dataclasses.dataclass(frozen=True)
class Video:
    """What a video says of its frames.

    stream: ffmpeg's number of the track. size: (height, width) as shown, with square pixels.
    frames: about how many there are. primaries, transfer: ffmpeg's names, 'unknown' where not
    told. filters: what makes a frame as shown out of a decoded one, before any scaling. scaling:
    options of ffmpeg's scaler.
    """

    path: Path
    stream: str
    size: tuple[int, int]
    frames: int
    primaries: str
    transfer: str
    filters: tuple[str, ...]
    scaling: str


def probe(path: Path) -> Video:
    """Reads the first frame and counts the others; ImageError where there is none."""
    stream = ffmpeg.FIRST_VIDEO
    said = _first_frame(path, stream)
    if (chosen := _default_stream(said)) is not None:
        stream, said = chosen, _first_frame(path, chosen)
    shown = re.search(r"fmt:(\S+).*? sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(\w)", said)
    if shown is None:
        raise _unreadable(path, said)
    _check_colors(path, said)
    kind, num, den, width, height, interlaced = shown.groups()
    stretch = int(num) / int(den) if int(num) and int(den) else 1.0
    size = int(height), max(1, round(int(width) * stretch))
    panoramas.check_video(path, size, said)
    deinterlace = ("yadif=deint=interlaced",) if interlaced in "TB" else ()
    matrix = ""
    if _told(said, "color_space") == "unknown" and "yuv" in kind:
        small = int(width) <= _STANDARD_WIDTH and int(height) <= _STANDARD_HEIGHT
        matrix = f":in_color_matrix={'bt601' if small else 'bt709'}"
    colors = _told(said, "color_primaries"), _told(said, "color_trc")
    count = _count(path, stream)
    return Video(path, stream, size, count, *colors, deinterlace, f"flags=area{matrix}")


def _first_frame(path: Path, stream: str) -> str:
    """What ffmpeg says of the file and of the first frame of a stream."""
    options = ["-v", "level+info", "-frames:v", "1", "-vf", "showinfo=checksum=0", "-f", "null"]
    return ffmpeg.read(path, *options, stream=stream).stderr.decode(errors="replace")


def _default_stream(said: str) -> str | None:
    """The number of the first track that is marked as what players show, where another precedes."""
    lines = re.findall(r"Stream #0:(\d+)\S*: Video: (.*)", said.partition("Output #0,")[0])
    films = [(number, rest) for number, rest in lines if not re.search(_NO_FILM, rest)]
    marked = [number for number, rest in films if "(default)" in rest]
    return marked[0] if marked and marked[0] != films[0][0] else None


def _unreadable(path: Path, said: str) -> ImageError:
    """Why there is no first frame; of several complaints the last is about all of the file."""
    way_out = "convert it to MP4, or give its frames as images"
    if any(sign in said for sign in _SIGNS_OF_CUT):
        why = "it is incomplete, as after a copy or recording that was broken off"
        way_out = "copy it once more from where it was recorded"
    elif "matches no streams" in said:
        why = "it holds no picture, perhaps only sound"
    elif "Format not on whitelist" in said:
        why = f"it is no container of videos that is read ({ffmpeg.DEMUXERS})"
    else:
        why = (ffmpeg.complaints(said) or ["it holds no picture"])[-1]
    error = ImageError(f"{path} cannot be read as a video: {why}")
    error.add_note(way_out)
    return error


def _told(said: str, field: str) -> str:
    found = re.search(rf"{field}:(\S+)", said)
    return found[1] if found else "unknown"


def _check_colors(path: Path, said: str) -> None:
    space = _told(said, "color_space")
    vision = re.search(r"DOVI configuration record:.*profile: (\d+)", said)
    if vision is not None and vision[1] in ("4", "5"):
        space = f"Dolby Vision profile {vision[1]}"
    elif space not in _OTHER_SPACES:
        return
    told = ImageError(f"{path}: its color coding, {space}, is not read")
    told.add_note("convert it to a video with BT.709 colors")
    raise told


def _count(path: Path, stream: str) -> int:
    done = ffmpeg.read(path, "-c", "copy", "-f", "null", stream=stream)
    counted = done.stderr.decode(errors="replace")
    frames = [int(number) for number in re.findall(r"frame=\s*(\d+)", counted)]
    return frames[-1] if frames else 1


def thumbnails(video: Video, side: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Every ``step``-th frame, small and gray, and the seconds at which each is first shown.

    Returns uint8 [n, side, side], and [n + 1] float64: the last is when the last frame ends.

    Raises:
      ImageError: the frames change their size or format midway, or none can be decoded.
    """
    chain = [f"select='not(mod(n,{step}))'", "showinfo=checksum=0"]
    done = _decode(video, chain, side, side, "gray", "level+info")
    size = side * side
    count = len(done.stdout) // size
    thumbs = np.frombuffer(done.stdout, np.uint8, count * size).reshape(count, side, side)
    said = done.stderr.decode(errors="replace")
    _check_constant(video.path, said)
    if not count:
        raise _damaged(video, "none of its frames could be decoded", said)
    return thumbs, _times(said, count, step)


def _check_constant(path: Path, said: str) -> None:
    """ImageError where ffmpeg begins to count anew, as it does for frames of another kind."""
    numbers = [int(number) for number in re.findall(r"\] n:\s*(\d+) pts:", said)]
    if numbers == sorted(numbers):
        return
    sizes = [" x ".join(size) for size in re.findall(r" s:(\d+)x(\d+) ", said)]
    kinds = ", then ".join(dict.fromkeys(sizes))
    told = ImageError(f"{path} changes the size or format of its frames midway ({kinds})")
    told.add_note("convert it to a video of one size, or give its parts as files")
    raise told


def _times(said: str, count: int, step: int) -> np.ndarray:
    """Starts of the frames and the end of the last; by number where the file tells no times.

    said: by ffmpeg's showinfo, which in 5.1 told no durations.
    """
    shown = re.findall(r"pts_time:\s*(\S+)(?:.*?duration_time:\s*(\S+))?", said)
    try:
        starts = np.array([float(start) for start, _ in shown])
        last = float(shown[-1][1] or 0.0) * step if shown else 0.0
    except ValueError:
        return np.arange(count + 1.0)
    if len(starts) != count or (np.diff(starts) < 0).any():
        return np.arange(count + 1.0)
    # Some writers give the last frame of a variable rate a short time of their own.
    gap = float(starts[-1] - starts[-2]) if count > 1 else 0.0
    return np.append(starts, starts[-1:] + (max(last, gap) or 1.0))


def frames(video: Video, numbers: list[int], height: int, width: int, deep: bool) -> np.ndarray:
    """The frames of these numbers, [n, height, width, 3]: uint8, or uint16 where ``deep``.

    Raises:
      ImageError: not all of them can be decoded, with ffmpeg's own complaint.
    """
    kind, dtype = ("rgb48le", np.dtype("<u2")) if deep else ("rgb24", np.dtype(np.uint8))
    done = _decode(video, [f"select='{_any_of(numbers)}'"], height, width, kind, "level+error")
    size = height * width * 3
    count = len(done.stdout) // (size * dtype.itemsize)
    if count != len(numbers):
        found = f"{count} of {len(numbers)} frames could be decoded"
        raise _damaged(video, found, done.stderr.decode(errors="replace"))
    return np.frombuffer(done.stdout, dtype, count * size).reshape(count, height, width, 3)


def _any_of(numbers: list[int]) -> str:
    """An expression of ffmpeg's that is true for these frames.

    A balanced tree of brackets: a sum of many terms is as deep as it is long for ffmpeg, which
    takes no more than 100 levels.
    """
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"({_any_of(numbers[:half])}+{_any_of(numbers[half:])})"


def _damaged(video: Video, found: str, said: str) -> ImageError:
    told = ImageError(f"{video.path} is damaged: {found}")
    for complaint in ffmpeg.complaints(said)[:1]:
        told.add_note(f"ffmpeg says: {complaint}")
    return told


def _decode(
    video: Video, chain: list[str], height: int, width: int, kind: str, level: str
) -> subprocess.CompletedProcess:
    chain = [*video.filters, *chain, f"scale={width}:{height}:{video.scaling}"]
    options = ["-v", level, "-vf", ",".join(chain), "-fps_mode", "passthrough", "-f", "rawvideo"]
    return ffmpeg.read(video.path, *options, "-pix_fmt", kind, stream=video.stream)
