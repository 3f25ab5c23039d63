"""Folders of results: only our own files are replaced or removed; all appear or none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvdust3r_jax.storage import locks, manifest, results
from mvdust3r_jax.storage.manifest import MANIFEST, ResultsError
from mvdust3r_jax.storage.results import results_folder

ROOT = Path(__file__).parents[2]


def write(folder, parts=None, **files):
    """Results of these names (``__`` for a slash) and texts."""
    with results_folder(folder, parts) as stage:
        for name, text in files.items():
            path = stage / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def content(folder):
    """Path -> text of all files but the manifest."""
    files = [p for p in folder.rglob("*") if not p.is_dir() and p.name != MANIFEST]
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def test_a_second_run_replaces_its_own_files_and_keeps_all_others(tmp_path):
    """Photographs, a database, a trained model beside ours stay, in our own subfolders too."""
    out = tmp_path / "out"
    write(out, scene="1", model__cameras="1", model__old="1", gone="1")
    (out / "model" / "photo.jpg").write_text("user")
    (out / "model" / "dense").mkdir()
    (out / "model" / "dense" / "depth").write_text("user")
    (out / "database.db").write_text("user")
    write(out, scene="2", model__cameras="2")
    assert content(out) == {
        "scene": "2",
        "model/cameras": "2",
        "model/photo.jpg": "user",
        "model/dense/depth": "user",
        "database.db": "user",
    }


def test_only_the_named_parts_lose_what_is_not_written_again(tmp_path):
    """A further format leaves the formats beside it alone."""
    write(tmp_path / "out", scene="1", model__a="1", model__b="1")
    write(tmp_path / "out", ["model"], model__a="2")
    assert content(tmp_path / "out") == {"scene": "1", "model/a": "2"}


@pytest.mark.parametrize("parts, stays", [(None, False), (["model"], True), (["images"], False)])
def test_what_an_earlier_run_wrote_is_found_only_if_it_stays(tmp_path, parts, stays):
    """What is about to be removed must not be named by what is written."""
    write(tmp_path / "out", images__a="1")
    with results_folder(tmp_path / "out", parts) as stage:
        found = results.where_it_stands(stage / "images" / "a")
        assert found.exists() == stays
        assert results.where_it_stands(stage / "new") in (stage / "new", tmp_path / "out" / "new")


@pytest.mark.parametrize("name", ["scene", "model__cameras"])
def test_a_foreign_file_in_the_way_is_an_error_and_nothing_changes(tmp_path, name):
    """Also one of ours that was edited, though its size is the same."""
    out = tmp_path / "out"
    write(out, other="1", **{name: "1"})
    path = out / name.replace("__", "/")
    path.write_text("x")
    with pytest.raises(ResultsError, match=f"{path.name}.*changed since"):
        write(out, other="2", **{name: "2"})
    assert content(out) == {"other": "1", name.replace("__", "/"): "x"}


def test_an_edited_file_that_is_not_written_again_stays(tmp_path):
    """It is the user's from now on."""
    write(tmp_path / "out", a="1", b="1")
    (tmp_path / "out" / "b").write_text("edited")
    write(tmp_path / "out", a="2")
    write(tmp_path / "out", a="3")
    assert content(tmp_path / "out") == {"a": "3", "b": "edited"}


def test_names_are_checked_before_the_work(tmp_path):
    """A foreign file is named at once; a foreign folder may hold our files beside others."""
    (tmp_path / "scene.ply").write_text("user")
    (tmp_path / "colmap").mkdir()
    results.check_names(tmp_path, ["colmap", "scene.glb"])
    with pytest.raises(ResultsError, match="scene.ply"):
        results.check_names(tmp_path, ["colmap", "scene.ply"])
    results.check_names(tmp_path / "none", ["scene.ply"])


def test_a_linked_folder_is_not_written_through(tmp_path):
    """A link inside the output folder may lead to anything."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match="model"):
        write(tmp_path / "out", model__a="1")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_folder_itself_may_be_a_link(tmp_path):
    """The link stays, the folder that it leads to gets the results."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", a="1")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "real") == {"a": "1"}


def test_a_failed_block_leaves_what_was_there(tmp_path):
    """Ctrl-C in the middle: the old results, or no folder at all."""
    write(tmp_path / "old", a="1")
    for folder in (tmp_path / "old", tmp_path / "new" / "deep"):
        with pytest.raises(KeyboardInterrupt), results_folder(folder) as stage:
            (stage / "a").write_text("2")
            raise KeyboardInterrupt
    assert content(tmp_path) == {"old/a": "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


_KILLED = """
import os, sys
from mvdust3r_jax.storage import results
rename, left = os.rename, int(sys.argv[2])
def killed(source, target):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
    rename(source, target)
os.rename = killed
with results.results_folder(sys.argv[1]) as stage:
    for name in ("a", "c", "d"):
        (stage / name).write_text("2")
"""


@pytest.mark.parametrize("broken", [1, 2, 3, 5])
@pytest.mark.parametrize("earlier", [{"a": "1", "b": "1"}, {}])
def test_what_a_killed_swap_moved_away_is_put_back(tmp_path, earlier, broken):
    """By the next run, though that one fails: the earlier results, and nothing of the new ones."""
    out = tmp_path / "out"
    out.mkdir()
    if earlier:
        write(out, **earlier)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(out), str(broken)], cwd=ROOT)
    assert killed.returncode == (9 if broken <= 3 + len(earlier) else 0)
    with pytest.raises(KeyboardInterrupt), results_folder(out):
        raise KeyboardInterrupt
    assert content(out) == (earlier if killed.returncode else dict.fromkeys("acd", "2"))
    write(out, c="3")
    assert content(out) == {"c": "3"}


def test_a_manifest_that_cannot_be_written_undoes_the_swap(tmp_path, monkeypatch):
    """A full disk: the earlier results are there, and are still known as ours."""
    write(tmp_path, a="1", b="1")
    written = manifest.write

    def full(folder, files):
        if folder == tmp_path:
            raise OSError(28, "No space left on device")
        written(folder, files)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(manifest, "write", full)
        write(tmp_path, a="2", c="2")
    assert content(tmp_path) == {"a": "1", "b": "1"}
    write(tmp_path, a="3")
    assert content(tmp_path) == {"a": "3"}


@pytest.mark.parametrize("broken", range(1, 5))
def test_a_swap_that_breaks_off_is_undone(tmp_path, monkeypatch, broken):
    """Whichever rename fails, the earlier results are all there."""
    write(tmp_path / "out", a="1", b__c="1")
    rename, count = os.rename, iter(range(1, 100))

    def failing(source, target):
        if next(count) == broken:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", a="2", b__c="2")
    assert content(tmp_path / "out") == {"a": "1", "b/c": "1"}


def test_a_file_that_appears_meanwhile_stays(tmp_path):
    """The names are looked at again at the swap."""
    out = tmp_path / "out"
    with pytest.raises(ResultsError, match="it stays"), results_folder(out) as stage:
        (stage / "a").write_text("1")
        (out / "a").write_text("user")
    assert content(out) == {"a": "user"}


def test_a_file_is_no_folder(tmp_path):
    """And a folder is no file."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        write(tmp_path / "file", a="1")
    (tmp_path / "out" / "a").mkdir(parents=True)
    with pytest.raises(ResultsError, match="is a folder"):
        write(tmp_path / "out", a="1")


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    """The second is told so; after the first it may."""
    program = (
        "import sys; from mvdust3r_jax.storage.results import results_folder\n"
        "with results_folder(sys.argv[1]): print('in', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(ResultsError, match="another run"):
            write(tmp_path, a="1")
        first.communicate("\n")
    write(tmp_path, a="1")
    assert content(tmp_path) == {"a": "1"}


def test_a_killed_run_leaves_nothing_for_ever(tmp_path):
    """The next one removes its stage."""
    program = (
        "import os, sys; from mvdust3r_jax.storage.results import results_folder\n"
        "with results_folder(sys.argv[1]) as s: (s / 'a').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT)
    assert list(tmp_path.iterdir())
    write(tmp_path, a="1")
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "a"]


def test_where_nothing_can_be_locked_no_stage_is_taken_for_stale(tmp_path, monkeypatch):
    """Network file systems may refuse: another run's files might still be in the making."""
    monkeypatch.setattr(locks, "lock", lambda _: False)
    with results_folder(tmp_path, ["one"]) as one:
        (one / "one").write_text("1")
        with results_folder(tmp_path, ["other"]) as other:
            (other / "other").write_text("2")
    assert (tmp_path / "one").read_text() == "1" and (tmp_path / "other").read_text() == "2"


def test_file_systems_without_modes_are_written_to(tmp_path, monkeypatch):
    """FAT and some shares refuse to change them."""

    def refuse(path, mode):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "chmod", refuse)
    with results_folder(tmp_path) as stage:
        (stage / "one").write_text("1")
    assert (tmp_path / "one").read_text() == "1"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "files": {"a": {}}}', "null"])
def test_a_damaged_manifest_claims_nothing(tmp_path, text):
    """What it might have named is treated as foreign."""
    write(tmp_path, a="1")
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ResultsError):
        write(tmp_path, a="2")
    assert content(tmp_path) == {"a": "1"}


def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path):
    """Names with ``..`` or absolute ones remove nothing elsewhere."""
    (tmp_path / "user").write_text("x")
    out = tmp_path / "out"
    write(out, a="x")
    manifest = (out / MANIFEST).read_text()
    for name in ("../user", str(tmp_path / "user")):
        (out / MANIFEST).write_text(manifest.replace('"a"', f'"{name}"'))
        write(out, b="1")
        assert (tmp_path / "user").read_text() == "x"
        (out / "b").unlink()
