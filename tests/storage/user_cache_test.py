"""What is kept in the user's cache: whole, the user's own, of bounded size, and only if wanted."""

import os

import pytest

from mvdust3r_jax.storage import user_cache
from mvdust3r_jax.weights import places
from mvdust3r_jax.weights.files import WeightsError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of this test's own, switched on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    user_cache.switch_on()
    yield tmp_path / "cache" / "mvdust3r_jax"
    user_cache.switch_on(False)


def test_what_is_written_is_read(cache):
    """The bytes themselves, by kind and key; in folders that are nobody else's."""
    user_cache.write("kind", "key", b"content")
    assert user_cache.read("kind", "key") == b"content"
    assert user_cache.read("kind", "other") is None is user_cache.read("other", "key")
    assert all((path.stat().st_mode & 0o777) == 0o700 for path in (cache, cache / "kind"))


def test_nothing_happens_unless_it_is_switched_on(cache):
    """No folder is made and nothing is read."""
    user_cache.switch_on(False)
    user_cache.write("kind", "key", b"content")
    assert not cache.exists() and user_cache.read("kind", "key") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "foreign", "empty"])
def test_damaged_entries_are_none_and_replaced(cache, damage):
    """Whatever happened to the file, it is not taken for what it was."""
    user_cache.write("kind", "key", b"content")
    path = cache / "kind" / "key"
    whole = path.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    found = dict(
        cut=whole[:-2], changed=changed, longer=whole + b"x", foreign=b"something else", empty=b""
    )
    path.write_bytes(found[damage])
    assert user_cache.read("kind", "key") is None
    user_cache.write("kind", "key", b"content")
    assert user_cache.read("kind", "key") == b"content"


@pytest.mark.parametrize("name", ["", "kind"])
def test_folders_that_others_may_write_to_are_not_used(cache, name):
    """Neither read nor written: what lies there may be anybody's."""
    user_cache.write("kind", "key", b"content")
    (cache / name).chmod(0o777)
    assert user_cache.read("kind", "key") is None
    user_cache.write("kind", "second", b"content")
    assert not (cache / "kind" / "second").exists()


def test_a_base_that_others_may_replace_is_not_used(cache, tmp_path):
    """A folder in one that all may write to is not safe, unless its sticky bit is set."""
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache").chmod(0o777)
    assert user_cache.safe_folder("kind") is None
    (tmp_path / "cache").chmod(0o1777)
    assert user_cache.safe_folder("kind") is not None


def test_the_least_used_go_first(cache, monkeypatch):
    """Above the limit files go in the order of their last use, reading counts as use."""
    monkeypatch.setattr(user_cache, "MAX_BYTES", 400)
    for age, key in enumerate(["a", "b", "c"]):
        user_cache.write("kind", key, bytes(60))
        os.utime(cache / "kind" / key, (1000 + age, 1000 + age))
    user_cache.read("kind", "a")
    user_cache.write("kind", "d", bytes(60))
    assert sorted(path.name for path in (cache / "kind").iterdir()) == ["a", "c", "d"]


def test_a_full_or_closed_disk_loses_nothing_else(cache, monkeypatch, tmp_path):
    """Where nothing can be kept, nothing is, and no error is raised."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    user_cache.write("kind", "key", b"content")
    assert user_cache.read("kind", "key") is None


def test_without_a_home_nothing_is_kept(monkeypatch):
    """A container's user whom nobody knows: no folder, no error, and weights by name are found."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(user_cache.Path, "home", no_home)
    user_cache.write("kind", "key", b"content")
    assert user_cache.safe_folder("kind") is user_cache.read("kind", "key") is None
    assert places.find_weights("small").name == "small.safetensors"
    with pytest.raises(WeightsError, match="no folder for weights.*XDG_CACHE_HOME"):
        places.find_weights("MVD")


def test_relative_xdg_paths_are_passed_over(monkeypatch):
    """As the XDG specification asks for."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache.base_folder().is_absolute()
