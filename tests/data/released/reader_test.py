"""Frames as the published files name them."""

import numpy as np

from data.released.reader import FrameKey, _depth
from data.schema import decode_depth_units, encode_depth_units


def test_no_measurement_is_unknown_in_published_files_too(tmp_path):
    """Some recorders write 65535; a wall in 65 m it is not."""
    units = np.array([[1000, 65535], [0, 2000]], np.uint16)
    (tmp_path / "d.png").write_bytes(encode_depth_units(units))
    key = FrameKey("i.jpg", "d.png", (), ())
    data, size = _depth(tmp_path / "d.png", key)
    assert size == (2, 2) and decode_depth_units(data, "d").tolist() == [[1000, 0], [0, 2000]]
