import pytest

from data import build
from data.stored.reader import TrajectorySet
from tests.posed_folders import box_scene, write_seven_scenes

pytest.importorskip("apache_beam", reason="the extra [beam] is not installed")


# Beam starts its workers anew, each of which imports everything.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_beam_on_two_workers_gives_the_same_records(tmp_path):
    """Order, bytes and the list of unreadable frames are those of the builder without Beam."""
    for number in range(3):
        write_seven_scenes(tmp_path / "raw", box_scene(20, seed=number), f"room{number}")
    flags = "--inputs 3 --targets 1 --step 2 --radius 0.1 --trajectories 4 --processes 1".split()
    base = f"rgbd --layout 7scenes --root {tmp_path}/raw --choice {tmp_path}/choice.npz".split()
    build.main(["choose", *base[1:], *flags])
    (tmp_path / "raw" / "room1" / "frame-000002.color.jpg").write_bytes(b"broken since")
    build.main([*base, "--out", str(tmp_path / "plain"), *flags])
    build.main([*base, "--out", str(tmp_path / "beam"), *flags, "--beam", "2"])
    sets = [TrajectorySet(tmp_path / way / "rgbd", "train") for way in ("plain", "beam")]
    one, two = (s.read(range(60)) for s in sets)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert all((a[k] == b[k]).all() if hasattr(a[k], "shape") else a[k] == b[k] for k in a)
    notes = [
        (tmp_path / way / "rgbd/frames/1.0.0/skipped.txt").read_text() for way in ("plain", "beam")
    ]
    assert notes[0] == notes[1] and "frame-000002" in notes[0]
