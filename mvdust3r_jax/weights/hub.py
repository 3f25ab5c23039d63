"""Published weights by name: fetched once from a model hub, checked, converted into the cache.

Names are the rows of `PUBLISHED`, or ``hf:OWNER/REPO/FILE[@REVISION]``. The first download resolves
the revision to a commit and compares the file with the SHA-256 that the server states for it; both
are kept beside the converted file. From then on the name means that commit and those bytes: every
load compares the converted file with its record, and nothing is fetched again unless it is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from mvdust3r_jax.storage import user_cache
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.weights import files as weight_files

PREFIX = "hf:"
_NON_COMMERCIAL = "non-commercial use only, on its owners' terms"
_ASKED = "the license that its owners state there"
_SYNTAX = re.compile(r"hf:([\w.-]+/[\w.-]+)/([\w./-]+?\.\w+)(?:@([\w./-]+))?")
_META, _NAVER = "Zhenggang/MV-DUSt3R", "naver/DUSt3R_ViTLarge_BaseDecoder_"


@dataclasses.dataclass(frozen=True)
class Published:
    """A weight file in a repository. sidecar: the file with the constructor's arguments, if any."""

    name: str
    repository: str
    file: str
    revision: str = "main"
    sidecar: str | None = None
    license: str = _ASKED


PUBLISHED = {
    row.name: row
    for row in (
        *(
            Published(name, _META, f"checkpoints/{name}.pth", license=_NON_COMMERCIAL)
            for name in ("MVD", "MVDp_s1", "MVDp_s2")
        ),
        *(
            Published(
                f"DUSt3R_{kind.removesuffix('_linear')}",
                _NAVER + kind,
                "model.safetensors",
                sidecar="config.json",
                license=_NON_COMMERCIAL,
            )
            for kind in ("224_linear", "512_dpt")
        ),
    )
}


def published(name: str) -> Published | None:
    """What the name means; None if it is no name of published weights.

    Raises:
      WeightsError: it begins as a file of a hub does and does not go on as one.
    """
    if not name.startswith(PREFIX):
        return PUBLISHED.get(name)
    match = _SYNTAX.fullmatch(name)
    if match is None or ".." in name:
        raise weight_files.WeightsError(
            f"hf:OWNER/REPO/FILE.ENDING, or that and @REVISION, is expected, got {name!r}"
        )
    return Published(name, match[1], match[2], match[3] or "main")


def cache_folder() -> Path:
    """Where weights are found by name: the user's cache. WeightsError without a home."""
    try:
        return user_cache.base_folder() / "weights"
    except RuntimeError as error:
        raise weight_files.WeightsError(
            f"there is no folder for weights by name: {error} ($XDG_CACHE_HOME names one)"
        ) from error


def fetch(source: Published, say: Callable[[str], None]) -> Path:
    """The converted file in the cache, downloaded if this is the first time; ``say`` is told what.

    Raises:
      WeightsError: no connection, no such file, or bytes that are not those of the record; it
      names the file to bring by hand. ModuleNotFoundError: the extra is missing.
    """
    folder = cache_folder() / "hub" / source.repository.replace("/", "--") / source.revision
    target, known = _entry(folder, source)
    if target.is_file() and known:
        _check_converted(target, known)
        return target
    _require_hub(source)
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock((folder / source.file).with_suffix(".lock")):
        # Another process may have been first, for this file or for one of its stem.
        target, known = _entry(folder, source)
        if not (target.is_file() and known):
            known = _download(source, target, known, say)
            with whole_file(_record_of(target)) as partial:
                partial.write_text(json.dumps(known, indent=1) + "\n")
    return target


def _entry(folder: Path, source: Published) -> tuple[Path, dict]:
    """Where the converted file is kept, and its record; {} where there is none that can be read.

    Files that differ only in their ending, or in whether a sidecar is read with them, are kept
    apart: the first has the stem as its name, others all of it, and a "+", which no file there has.
    """
    target = (folder / source.file).with_suffix(".safetensors")
    known = _read_record(target)
    # Records of earlier versions do not say with which sidecar.
    found = known.get("file", source.file), known.get("sidecar", source.sidecar)
    if found != (source.file, source.sidecar):
        target = folder / f"{source.file}+{source.sidecar or ''}.safetensors"
        known = _read_record(target)
    return target, known


def _record_of(target: Path) -> Path:
    return target.with_suffix(".record.json")


def _read_record(target: Path) -> dict:
    try:
        known = json.loads(_record_of(target).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _check_converted(target: Path, known: dict) -> None:
    if _sha256(target) != known.get("converted_sha256"):
        raise weight_files.WeightsError(
            f"{target} is not what was written there; remove it, and it is fetched again"
        )


def _require_hub(source: Published) -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError:
        error = ModuleNotFoundError(f"weights by name need huggingface_hub; {by_hand(source)}")
        error.add_note("pip install 'mvdust3r-jax[hub]'")
        raise error from None


def by_hand(source: Published) -> str:
    """Which file to bring where, for a machine without a connection."""
    bring = f"bring {source.file} of {source.repository} by hand and give its path to --weights"
    if source.name not in PUBLISHED:
        return bring
    place = cache_folder() / f"{source.name}{Path(source.file).suffix}"
    besides = f", {source.sidecar} as {place.with_suffix('.json')}" if source.sidecar else ""
    return f"{bring}, or put it there as {place}{besides}"


def _download(source: Published, target: Path, known: dict, say: Callable[[str], None]) -> dict:
    """Fetch, compare, convert; returns the record. ``known``: an earlier one, which is kept to."""
    from huggingface_hub.errors import HTTPError

    revision = known.get("commit") or source.revision
    try:
        facts = _facts(source, source.file, revision)
        expected = known.get("sha256") or _stated_sha256(facts, source)
        say(
            f"{source.name}: {facts.size / 1e6:.0f} MB of {source.repository}, commit "
            f"{facts.commit_hash}; license: {source.license}"
        )
        with _folder(target.with_suffix(".download")) as folder:
            path = _get(source, source.file, facts, folder)
            _get_sidecar(source, facts, folder, path)
            found = _sha256(path)
            if found != expected or path.stat().st_size != facts.size:
                raise weight_files.WeightsError(
                    f"{source.file} of {source.repository} came with SHA-256 {found}, expected "
                    f"{expected}; nothing of it is kept, try again"
                )
            say(f"{source.name}: SHA-256 is as the server states; kept as {target}")
            weight_files.convert(path, target)
    except weight_files.WeightsError:
        raise
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise weight_files.WeightsError(
            f"{source.name} cannot be fetched ({reason[:160]}); {by_hand(source)}"
        ) from error
    return {
        "repository": source.repository,
        "file": source.file,
        "sidecar": source.sidecar,
        "commit": facts.commit_hash,
        "size": facts.size,
        "sha256": expected,
        "converted_sha256": _sha256(target),
    }


class _folder:
    """A folder of a download, which a broken-off one leaves for the next to go on; then removed."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def __exit__(self, kind, *_) -> None:
        if kind is None or issubclass(kind, weight_files.WeightsError):
            shutil.rmtree(self.path, ignore_errors=True)


def _endpoint() -> str | None:
    """The hub's address where the user names another one than the usual."""
    return os.environ.get("HF_ENDPOINT")


def _facts(source: Published, file: str, revision: str):
    """Commit, size and hash of a file, as the server states them."""
    import huggingface_hub as hub

    url = hub.hf_hub_url(source.repository, file, revision=revision, endpoint=_endpoint())
    facts = hub.get_hf_file_metadata(url, endpoint=_endpoint())
    if not facts.commit_hash or facts.size is None:
        raise weight_files.WeightsError(f"{url} states neither commit nor size; is it a model hub?")
    return facts


def _stated_sha256(facts, source: Published) -> str:
    """Large files are known by their SHA-256; a file that is not has no hash worth the name."""
    if not re.fullmatch("[0-9a-f]{64}", facts.etag or ""):
        raise weight_files.WeightsError(
            f"the server states no SHA-256 for {source.file} of {source.repository} (it says "
            f"{facts.etag!r}); {by_hand(source)}"
        )
    return facts.etag


def _get(source: Published, file: str, facts, folder: Path) -> Path:
    import huggingface_hub as hub

    commit = facts.commit_hash
    return Path(
        hub.hf_hub_download(
            source.repository, file, revision=commit, local_dir=folder, endpoint=_endpoint()
        )
    )


def _get_sidecar(source: Published, facts, folder: Path, path: Path) -> None:
    """The constructor's arguments beside the weights, as `torch_args` looks for them."""
    if source.sidecar:
        sidecar = _get(source, source.sidecar, facts, folder)
        sidecar.replace(path.with_suffix(".json"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
