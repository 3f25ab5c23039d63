import dataclasses
import filecmp

import numpy as np
import pytest

from data import build
from data.overlap import Rule
from data.rgbd.builder import Rgbd
from data.rgbd.choice import Choice
from data.rgbd.choose import choose_scene, plan
from data.rgbd.layouts import LAYOUTS, checked_pose
from data.rgbd.splits import Splits
from data.schema import CorruptRecord
from data.stored.reader import TrajectorySet
from data.stored.write import write_dataset
from tests.posed_folders import (
    WRITERS,
    box_scene,
    released_entry,
    write_h5,
    write_scannet,
    write_seven_scenes,
)

RULE = Rule(num_inputs=3, num_targets=1, step=2, radius_per_step_m=0.1, max_trajectories=6)
RULE_FLAGS = "--inputs 3 --targets 1 --step 2 --radius 0.1 --trajectories 6 --processes 1".split()


@pytest.fixture(scope="module")
def scene():
    return box_scene(num_views=20)


def chosen(layout, root):
    """The choice of a root with one scene, made in this process."""
    (task,) = plan(layout, root, RULE)
    return Choice(layout, RULE, 0, {"train": {task.name: choose_scene(task)}})


def built(layout, root, out):
    choice = chosen(layout, root)
    folder, skipped = write_dataset(
        lambda config: Rgbd(root=root, choice=choice, data_dir=out, config=config)
    )
    assert not skipped
    return TrajectorySet(folder, "train")


def assert_same_examples(one, other):
    """Files byte for byte, cameras to float32 rounding."""
    for name in ("inputs", "targets", "needs"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    count = one.inputs.max() + 1
    for a, b in zip(one.read(range(count)), other.read(range(count)), strict=True):
        assert a["image"] == b["image"]
        assert a["depth"] == b["depth"]
        # A quaternion and an inverse stand between ScanNet++'s poses and the others'.
        np.testing.assert_allclose(a["world_from_cam"], b["world_from_cam"], atol=1e-6)
        np.testing.assert_allclose(a["intrinsics"], b["intrinsics"], atol=1e-5)


def test_all_layouts_of_one_scene_give_the_same_examples(scene, tmp_path):
    """ScanNet, ScanNet++, 7-Scenes and plain copies: equal frames, equal trajectories."""
    sets = []
    for layout, write in WRITERS.items():
        write(tmp_path / layout, scene)
        sets.append(built(layout, tmp_path / layout, tmp_path / f"{layout}-out"))
    assert len(sets[0]) == RULE.max_trajectories
    for other in sets[1:]:
        assert_same_examples(sets[0], other)


@pytest.mark.parametrize("raw", [True, False])
def test_released_files_give_the_same_examples_as_the_folder(scene, tmp_path, raw):
    """Both pose and both intrinsics forms, with the paths of another machine."""
    write_scannet(tmp_path, scene)
    folder = built("scannet", tmp_path, tmp_path / "out")
    # Frames are numbered as trajectories name them, so the first names all in order.
    first = [list(range(20))]
    rows = [[*i, *t] for i, t in zip(folder.inputs.tolist(), folder.targets.tolist(), strict=True)]
    entries = [released_entry(scene, row, raw=raw) for row in first + rows]
    write_h5(tmp_path / "dps.h5", entries)
    argv = f"released --train {tmp_path}/dps.h5 --root {tmp_path} --out {tmp_path}/h5 --targets 1"
    build.main(argv.split())
    released = TrajectorySet(tmp_path / "h5" / "released", "train")
    np.testing.assert_array_equal(released.inputs[1:, :3], folder.inputs)
    np.testing.assert_array_equal(released.targets[1:], folder.targets)
    for a, b in zip(released.read(range(20)), folder.read(range(20)), strict=True):
        assert (a["image"], a["depth"]) == (b["image"], b["depth"])
        np.testing.assert_array_equal(a["world_from_cam"], b["world_from_cam"])
        np.testing.assert_array_equal(a["intrinsics"], b["intrinsics"])


def test_wide_images_are_cut_into_their_views(scene, tmp_path):
    """nv views side by side, depth as one .npy in meters."""
    from data.schema import decode_depth_units, decode_image, encode_jpeg

    views = [decode_image(data, "") for data in scene.jpegs[:4]]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "wide.jpg").write_bytes(encode_jpeg(np.concatenate(views, axis=1)))
    np.save(tmp_path / "a" / "wide.npy", np.concatenate(scene.depth_m[:4], axis=1))
    entry = released_entry(scene, range(4))
    entry |= {"rgb_list": ["/x/a/wide.jpg"], "depth_list": ["/x/a/wide.npy"], "nv": 4}
    write_h5(tmp_path / "dps.h5", [entry])
    argv = f"released --train {tmp_path}/dps.h5 --root {tmp_path} --out {tmp_path} --targets 1"
    build.main(argv.split())
    stored = TrajectorySet(tmp_path / "released", "train")
    frames = stored.read(np.concatenate([stored.inputs[0], stored.targets[0]]))
    for i, frame in enumerate(frames):
        depth_m = decode_depth_units(frame["depth"], "") * frame["depth_unit_m"]
        np.testing.assert_allclose(depth_m, scene.depth_m[i], atol=5.1e-4)
        # Second JPEG pass at quality 95.
        assert np.abs(decode_image(frame["image"], "").astype(int) - views[i]).mean() < 4


def test_missing_and_unknown_files_are_listed_not_fatal(scene, tmp_path, capsys):
    """A bad entry is passed over; a missing image is stored empty; both are named."""
    write_scannet(tmp_path, scene)
    good, missing = released_entry(scene, range(4)), released_entry(scene, range(4))
    missing["rgb_list"][1] = "/elsewhere/frames/color/nowhere.jpg"
    write_h5(tmp_path / "dps.h5", [good, missing, {"scene_name": "empty"}])
    argv = f"released --train {tmp_path}/dps.h5 --root {tmp_path} --out {tmp_path} --targets 1"
    build.main(argv.split())
    said = capsys.readouterr().out
    assert "entry 2" in said and "nowhere.jpg" in said
    assert len(TrajectorySet(tmp_path / "released", "train")) == 2


def test_rebuild_is_byte_identical(scene, tmp_path):
    """Choice and both configs, through the command line."""
    write_seven_scenes(tmp_path / "raw", scene)
    for out in ("one", "two"):
        argv = f"rgbd --layout 7scenes --root {tmp_path}/raw --out {tmp_path}/{out}".split()
        build.main(argv + RULE_FLAGS)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    files = [p for p in files if (tmp_path / "one" / p).is_file()]
    assert len(files) >= 7
    same, *others = filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", files, shallow=False)
    assert others == [[], []], others
    assert len(same) == len(files)


def test_bad_frames_are_left_out_counted_and_named(scene, tmp_path):
    """Infinite pose, missing and empty files, unreadable image, depth of another size."""
    write_seven_scenes(tmp_path, scene)
    room = tmp_path / "room"
    (room / "frame-000001.pose.txt").write_text("-inf " * 4 + "\n" + "1 0 0 0\n" * 3)
    (room / "frame-000002.depth.png").unlink()
    (room / "frame-000003.color.jpg").write_bytes(b"")
    (room / "frame-000004.color.jpg").write_bytes(b"no image at all")
    small = box_scene(num_views=1, size=(24, 32))
    (room / "frame-000005.depth.png").write_bytes(small.pngs[0])
    (room / "frame-000006.pose.txt").write_text("1 0 0\n")
    choice = chosen("7scenes", tmp_path).scenes["train"]["room"]
    assert len(choice.frames) == 14
    assert len(choice.problems) == 6
    for number, reason in enumerate(
        ("not finite", "missing", "decoded", "decoded", "size", "4x4"), start=1
    ):
        (line,) = [p for p in choice.problems if p.startswith(f"frame-{number:06d}")]
        assert reason in line, line


def test_scene_with_too_few_frames_is_named(tmp_path, capsys):
    """The choice goes on without it."""
    write_seven_scenes(tmp_path / "raw", box_scene(num_views=3), "tiny")
    choice = choose_scene(plan("7scenes", tmp_path / "raw", RULE)[0])
    assert len(choice.trajectories) == 0
    assert "3 usable frames" in choice.problems[-1]


def test_a_split_without_trajectories_is_left_out(scene, tmp_path):
    """The other split is built; with none at all the error says so."""
    write_seven_scenes(tmp_path / "raw", scene, "good")
    write_seven_scenes(tmp_path / "raw", box_scene(num_views=3), "tiny")
    argv = f"rgbd --layout 7scenes --root {tmp_path}/raw --out {tmp_path}/out".split()
    build.main([*argv, *RULE_FLAGS, "--test-scenes", "tiny"])
    folder = tmp_path / "out" / "rgbd"
    assert len(TrajectorySet(folder, "train")) == RULE.max_trajectories
    with pytest.raises(ValueError, match=r"splits \['train'\], not 'test'"):
        TrajectorySet(folder, "test")
    argv = f"rgbd --layout 7scenes --root {tmp_path}/raw/tiny --out {tmp_path}/none".split()
    with pytest.raises(SystemExit, match="choice.npz: no scene gives a trajectory.*--lo.*--step"):
        build.main([*argv, *RULE_FLAGS])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--root nowhere", "no scene of layout '7scenes' below .*nowhere"),
        ("--lo 0.9 --hi 0.3", "expected 0 <= lo < hi <= 1, got lo=0.9, hi=0.3"),
        ("--radius 0", "expected --radius above 0"),
        ("--trajectories 0", "expected --trajectories of at least 1"),
        ("--validation-share 1.5", ".*below 1 together, got 1.5"),
        ("--validation-scenes r", r"validation scenes \['r'\] are not among \['room'\]"),
    ],
)
def test_what_users_get_wrong_is_one_line(tmp_path, more, said):
    """And no traceback; as of training and evaluation the exit code is 1."""
    write_seven_scenes(tmp_path / "raw", box_scene(num_views=3))
    argv = f"rgbd --layout 7scenes --root {tmp_path}/raw --out {tmp_path}/out {more}".split()
    with pytest.raises(SystemExit, match=f"error: {said}") as ended:
        build.main(argv)
    assert len(str(ended.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("rgbd --layout plain --root R", "--short-side -5"),
        ("rgbd --layout plain --root R", "--short-side 1"),
        ("rgbd --layout plain --root R", "--processes 0"),
        ("rgbd --layout plain --root R", "--seed -1"),
        ("released --root R --train T", "--limit -1"),
        ("released --root R --train T", "--targets -1"),
        ("rooms", "--train -1"),
        ("rooms", "--size 0 64"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_their_option(tmp_path, capsys, command, wrong):
    """Before anything is read or written."""
    with pytest.raises(SystemExit) as ended:
        build.main(f"{command} --out {tmp_path}/out {wrong}".split())
    told = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and f"argument {wrong.split()[0]}: " in told
    assert "is expected, got" in told and not (tmp_path / "out").exists()


def test_a_tail_of_every_scene_can_be_the_test_split(scene, tmp_path):
    """No frame is in both splits."""
    write_seven_scenes(tmp_path, scene)
    train, test = plan("7scenes", tmp_path, RULE, splits=Splits(test_tail=0.4))
    names = [{frame.name for frame in task.frames()[0]} for task in (train, test)]
    assert [len(n) for n in names] == [12, 8]
    assert not names[0] & names[1]


def test_a_set_without_targets_can_be_read(scene, tmp_path):
    """A choice of no render-only views is stored and read back, and asked for none."""
    write_seven_scenes(tmp_path / "raw", scene)
    rule = dataclasses.replace(RULE, num_targets=0)
    (task,) = plan("7scenes", tmp_path / "raw", rule)
    choice = Choice("7scenes", rule, 0, {"train": {task.name: choose_scene(task)}})
    folder, _ = write_dataset(
        lambda config: Rgbd(
            root=tmp_path / "raw", choice=choice, data_dir=tmp_path / "out", config=config
        )
    )
    stored = TrajectorySet(folder, "train")
    np.testing.assert_array_equal(stored.eligible(3, 0), np.arange(len(stored)))
    assert len(stored.eligible(3, 1)) == 0


def test_a_root_without_scenes_is_an_error(tmp_path):
    """For every layout, naming it."""
    for layout in LAYOUTS:
        with pytest.raises(FileNotFoundError, match=layout):
            plan(layout, tmp_path, RULE)


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
def test_poses_that_are_not_finite_and_rigid_are_refused(entry):
    """Also a mirrored one."""
    pose = np.eye(4)
    pose[0, 3] = entry
    with pytest.raises(CorruptRecord, match="finite"):
        checked_pose(pose, "f")
    with pytest.raises(CorruptRecord, match="rigid"):
        checked_pose(np.diag([-1.0, 1, 1, 1]), "f")
