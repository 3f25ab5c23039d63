"""Photographs for the formats that name image files, where the files given cannot serve.

COLMAP and nerfstudio read a file per view, upright and at the original size. Frames of a video are
no files; photographs may be turned by EXIF, or share their names. They are then written into
``images/`` in the output folder, beside the formats' own folders, under names that every file
system takes. A COLMAP folder holds its photographs itself, so for it they are copied there also
where they serve as they are.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.names import are_distinct_files, numbered, portable
from mvdust3r_jax.media.photographs import Photo, read_photo
from mvdust3r_jax.media.picture import read_header
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.results import where_it_stands
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE, SceneArrays

FOLDER = "images"
# Formats that refer to image files.
FORMATS = ("colmap", "colmap-text", "nerfstudio")
# Formats whose folder has the photographs in it.
HOLDING = ("colmap", "colmap-text")
_JPEG_SUFFIXES = {".jpg", ".jpeg"}
# What every program reads that reads these formats: endings, and pixels of 8 bits, by format.
_PLAIN = {
    "JPEG": (_JPEG_SUFFIXES, {"L", "RGB"}),
    "MPO": (_JPEG_SUFFIXES, {"L", "RGB"}),
    "PNG": ({".png"}, {"1", "L", "P", "RGB", "RGBA"}),
}
_ENDINGS = {*_JPEG_SUFFIXES, ".png"}
_QUALITY = 95
# File systems take names of 255 bytes; numbers and endings come to these.
_MAX_STEM_BYTES = 230


def spaceless_names(scene: SceneArrays) -> list[str]:
    """The views' names without white space, which COLMAP's text format cannot hold; distinct."""
    names = ["_".join(str(name).split()) for name in scene.names]
    if len(set(names)) == len(names):
        return names
    return [numbered(i, name) for i, name in enumerate(names)]


def file_names(scene: SceneArrays) -> list[str]:
    """Name of each view's file in ``images/``: distinct, ending as a JPEG or PNG file.

    White space and what some file systems refuse is "_", what they would find too long is cut.
    """
    names = [_picture_name(portable(Path(name).name)) for name in map(str, scene.names)]
    if are_distinct_files(names):
        return names
    return [numbered(i, name) for i, name in enumerate(names)]


def _picture_name(name: str) -> str:
    suffix = Path(name).suffix
    stem, ending = name, ".jpg"
    if suffix.lower() in _ENDINGS:
        stem, ending = name.removesuffix(suffix), suffix
    if len(stem.encode(errors="replace")) <= _MAX_STEM_BYTES:
        return stem + ending
    return stem.encode(errors="replace")[:_MAX_STEM_BYTES].decode(errors="ignore") + ending


def written_names(scene: SceneArrays, folder: Path) -> list[str] | None:
    """Names of the views' files in the output folder's ``images/`` if all are there, else None.

    Files that are not upright, of another size than the cameras', or beside a scene of other
    pictures, are somebody else's.
    """
    names = file_names(scene)
    places = [where_it_stands(folder / FOLDER / name) for name in names]
    if not all(os.path.isfile(place) for place in places):
        return None
    sizes = scene.original_sizes.tolist()
    fits = all(_is_upright(p, tuple(s)) for p, s in zip(places, sizes, strict=True))
    return names if fits and _is_beside(scene, places[0].parents[1]) else None


def _is_beside(scene: SceneArrays, folder: Path) -> bool:
    """Whether the scene that is kept in the folder, if one is, has the same pictures."""
    if not (folder / SCENE_FILE).is_file():
        return True
    try:
        with np.load(folder / SCENE_FILE) as kept:
            return np.array_equal(kept["images_01"], np.asarray(scene.images_01, np.float32))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def serve_as_they_are(scene: SceneArrays, sources: Sequence[Path | Photo]) -> bool:
    """Whether all views are plain upright files under the names that the scene has for them."""
    pairs = zip(sources, spaceless_names(scene), strict=True)
    return all(
        isinstance(source, Path) and source.name == name and _is_plain(source)
        for source, name in pairs
    )


def are_needed(
    scene: SceneArrays, sources: Sequence[Path | Photo], formats: Collection[str]
) -> bool:
    """Whether one of the formats takes files in ``images/``."""
    named = set(formats) & set(FORMATS)
    return bool(named & set(HOLDING) or (named and not serve_as_they_are(scene, sources)))


def _is_upright(path: Path, size: tuple[int, int]) -> bool:
    """Whether it is a photograph whose stored pixels have that (height, width)."""
    try:
        header = read_header(path)
    except ImageError:
        return False
    return header.tag == 1 and header.size == size


def _is_plain(path: Path) -> bool:
    """Whether it is an upright file as every program reads it, called as what it is."""
    header = read_header(path)
    suffixes, modes = _PLAIN.get(header.kind, ((), ()))
    return header.tag == 1 and path.suffix.lower() in suffixes and header.mode in modes


def write_photographs(
    folder: Path, scene: SceneArrays, sources: Sequence[Path | Photo]
) -> list[Path]:
    """Write ``images/`` into the output folder: upright, at the size the intrinsics belong to.

    Files that every program reads keep every byte. Frames of very large videos are decoded
    smaller; they are enlarged again.
    """
    paths = []
    for source, name, size in zip(sources, file_names(scene), scene.original_sizes, strict=True):
        paths.append(folder / FOLDER / name)
        with whole_file(paths[-1]) as partial:
            if _may_be_copied(source, paths[-1]):
                shutil.copyfile(source, partial)
            else:
                _encode(source, partial, (int(size[1]), int(size[0])))
    return paths


def _may_be_copied(source: Path | Photo, target: Path) -> bool:
    if not isinstance(source, Path) or source.suffix.lower() != target.suffix.lower():
        return False
    return _is_plain(source)


def _encode(source: Path | Photo, path: Path, width_height: tuple[int, int]) -> None:
    photo = source if isinstance(source, Photo) else read_photo(source)
    picture = Image.fromarray(photo.pixels)
    if picture.size != width_height:
        picture = picture.resize(width_height, Image.Resampling.LANCZOS)
    picture.save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=_QUALITY)
