"""The eight orientations of EXIF: what turns a picture upright, and where its pixels go.

Tag 1 is upright; 3, 6 and 8 are turns; 2, 4, 5 and 7 are mirrored as well. "Stored" is the file's
own pixel grid, "upright" the one that a viewer shows. Pixel (0, 0) has its center at (0, 0).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, Image

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Upright x and y as (sign, stored axis): "-y" counts from the stored picture's lower border.
_AXES = {
    1: ((1, 0), (1, 1)),
    2: ((-1, 0), (1, 1)),
    3: ((-1, 0), (-1, 1)),
    4: ((1, 0), (-1, 1)),
    5: ((1, 1), (1, 0)),
    6: ((-1, 1), (1, 0)),
    7: ((-1, 1), (-1, 0)),
    8: ((1, 1), (-1, 0)),
}


def tag_of(image: Image.Image) -> int:
    """The orientation that the file states, 1 where it states none or nonsense.

    TIFF's is read from the file's own directory: once decoded, Pillow has turned the picture.
    """
    try:
        tags = image.tag_v2 if image.format == "TIFF" else image.getexif()
        value = tags.get(ExifTags.Base.Orientation, 1)
    # Damaged metadata make the reader raise almost anything; the pixels are as they are.
    except Exception:
        return 1
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return int(value) if isinstance(value, int) and value in _AXES else 1


def is_sideways(tag: int) -> bool:
    """Whether height and width change places."""
    return tag >= 5


def is_mirrored(tag: int) -> bool:
    """Whether left and right change places, which no camera's pose can follow."""
    return tag in (2, 4, 5, 7)


def upright(image: Image.Image, tag: int) -> Image.Image:
    """The stored picture turned."""
    return image.transpose(_TRANSPOSES[tag]) if tag in _TRANSPOSES else image


def upright_size(size: tuple[int, int], tag: int) -> tuple[int, int]:
    """(height, width) of the upright picture from the stored one's, or the other way round."""
    return size[::-1] if is_sideways(tag) else size


def upright_from_stored(tag: int, stored_size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Map of pixel coordinates (x, y, 1); ``stored_size`` is (height, width)."""
    length = stored_size[::-1]
    matrix = np.zeros((3, 3))
    matrix[2, 2] = 1
    for row, (sign, axis) in enumerate(_AXES[tag]):
        matrix[row, axis] = sign
        matrix[row, 2] = length[axis] - 1 if sign < 0 else 0
    return matrix


def stored_array(array: np.ndarray, tag: int) -> np.ndarray:
    """The upright array [h, w, ...] as the file stores it."""
    (across, _), (down, _) = _AXES[tag]
    array = array[::down, ::across]
    return np.ascontiguousarray(np.swapaxes(array, 0, 1) if is_sideways(tag) else array)
