"""The example's photographs."""

import numpy as np

from tools.make_example import write_photographs


def test_fewer_photographs_replace_more(tmp_path):
    """What an earlier call wrote is no part of the room; files of others stay."""
    (tmp_path / "notes.txt").write_text("mine")
    for count in (3, 2):
        write_photographs(tmp_path, np.zeros((count, 8, 8, 3), np.float32))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00.jpg", "01.jpg", "notes.txt"]
