"""Bytes worth keeping between runs, by key, in the user's cache folder ($XDG_CACHE_HOME).

Off until `switch_on`: a library fills no folder that nobody asked it to fill. What is read is whole
(a SHA-256 stands before it) and was written by this user: folders that another user owns or could
write into are not used at all. Nothing read here is unpickled. Anything wrong with an entry means
that it is not there; it is made anew and replaced.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mvdust3r_jax.storage.atomic import whole_file

# All entries of one kind together; the ones that were not used for longest go first.
MAX_BYTES = 64 << 20
_MAGIC = b"mvdust3r_jax kept 1\n"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_switched_on = False


def switch_on(on: bool = True) -> None:
    """Begin (or cease) to read and write."""
    global _switched_on
    _switched_on = on


def base_folder() -> Path:
    """This package's folder in the user's cache; it need not exist. RuntimeError without a home."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(told) if os.path.isabs(told) else Path.home() / ".cache"
    return base / "mvdust3r_jax"


def safe_folder(name: str) -> Path | None:
    """The folder ``name`` in there, made if it is missing; None where it cannot be trusted."""
    try:
        base = base_folder()
        folder = base / name
        base.parent.mkdir(parents=True, exist_ok=True)
        base.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        inner = [p for p in (folder, *folder.parents) if base in (p, *p.parents)]
        trusted = _is_kept_apart(base.parent) and all(_is_ours(p) for p in inner)
    except (OSError, RuntimeError):  # no home, no space, no permission
        return None
    return folder if trusted else None


def _is_ours(path: Path) -> bool:
    """Owned by this user, and nobody else may write. Systems without users trust."""
    if not hasattr(os, "geteuid"):
        return True
    facts = path.stat()
    return facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS_WRITE


def _is_kept_apart(folder: Path) -> bool:
    """Whether others cannot replace what this user has in the folder."""
    facts = folder.stat()
    return not facts.st_mode & _OTHERS_WRITE or bool(facts.st_mode & stat.S_ISVTX)


def key_of(*facts: object) -> str:
    """A name for what depends on exactly these facts (by their ``repr``)."""
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()[:32]


@functools.cache
def source_digest(*rooms: str) -> str:
    """Of the source text of rooms and modules of this package, which what is kept was made by."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for name in rooms:
        place = package / name
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


def read(kind: str, key: str) -> bytes | None:
    """What was written under the key; None if there is nothing, or nothing whole."""
    folder = safe_folder(kind) if _switched_on else None
    if folder is None:
        return None
    path = folder / key
    try:
        with path.open("rb") as file:
            content = file.read()
        os.utime(path)
    except OSError:
        return None
    start = len(_MAGIC) + hashlib.sha256().digest_size
    said, data = content[len(_MAGIC) : start], content[start:]
    whole = content.startswith(_MAGIC) and said == hashlib.sha256(data).digest()
    return data if whole else None


def write(kind: str, key: str, content: bytes | bytearray) -> None:
    """Keep the content; where that is not possible, nothing happens."""
    folder = safe_folder(kind) if _switched_on else None
    if folder is None:
        return
    try:
        with whole_file(folder / key) as partial:
            partial.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
        shrink(folder, MAX_BYTES)
    except OSError:
        return


def _files(folder: Path) -> Iterator[tuple[os.stat_result, Path]]:
    """All there are; others may remove some meanwhile."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.stat(), path


def shrink(folder: Path, most_bytes: int) -> None:
    """Remove the files that were not used for longest until at most ``most_bytes`` are left."""
    facts = list(_files(folder))
    total = sum(fact.st_size for fact, _ in facts)
    for fact, path in sorted(facts, key=lambda fact: fact[0].st_mtime_ns):
        if total <= most_bytes:
            return
        path.unlink(missing_ok=True)
        total -= fact.st_size
