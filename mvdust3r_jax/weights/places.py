"""Where weights lie: a path, also in a bucket, or a name, of a known folder or a published one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from mvdust3r_jax.storage.places import AnyPath, as_path, is_remote
from mvdust3r_jax.weights import folders, hub
from mvdust3r_jax.weights.files import WeightsError

# What comes with a clone of the repository, but not with an installed package; the best one first.
SHIPPED = ("room_mvd", "small")
_SUFFIXES = (".safetensors", ".pth", "")


def _folders() -> tuple[Path, ...]:
    """Folders of weights by name, in the order in which they are looked at."""
    shipped = Path(__file__).parents[2] / "weights"
    try:
        return (shipped, hub.cache_folder())
    except WeightsError:  # without a home
        return (shipped,)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def find_weights(path_or_name: str | os.PathLike, say: Callable[[str], None] = _tell) -> AnyPath:
    """The file or folder: as it is given, or by its name; published ones are fetched once.

    say: is told of a download and of its license before it begins.

    Raises:
      FileNotFoundError: saying where was looked. What `hub.fetch` raises.
    """
    given = as_path(path_or_name)
    if given.exists() and (is_remote(given) or not given.is_dir()):
        return given
    if is_remote(given):
        raise FileNotFoundError(f"there are no weights at {given}")
    places = [folder / f"{given}{suffix}" for folder in _folders() for suffix in _SUFFIXES]
    # Unlike `Path.exists`, this is no error in a folder that may not be read.
    found = [place for place in places if len(given.parts) == 1 and os.path.exists(place)]
    source = hub.published(os.fspath(path_or_name))
    # A folder of results that is called as a network is does not hide the network.
    is_known = bool(found or source)
    if given.exists() and not (is_known and given.is_dir() and not folders.has_weights(given)):
        return given
    if found:
        return found[0]
    if source is not None:
        return hub.fetch(source, say)
    looked = ", ".join(str(folder) for folder in _folders())
    error = FileNotFoundError(
        f"there are no weights {str(given)!r}, here or in {looked}; published ones are "
        f"{', '.join(hub.PUBLISHED)}"
    )
    if str(given) in SHIPPED:
        error.add_note(f"a clone of the repository holds '{given}', in its folder weights/")
    raise error
