"""Places in buckets: what their clients raise is told as what a disk would raise."""

import pytest

from mvdust3r_jax.storage import places


class Outage(Exception):
    """As of gcsfs and of Google's clients: no OSError."""


class Away:
    """An object of a bucket that answers nothing."""

    def open(self, mode):
        raise Outage(f"503 for {mode}")

    def __str__(self):
        return "gs://bucket/object"


def test_an_outage_of_a_bucket_is_an_os_error(tmp_path):
    """Named by the object; the run reports it as it does a full disk."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="gs://bucket/object: Outage: 503 for wb"):
        places.store(tmp_path / "file", Away())
    with pytest.raises(OSError, match="gs://bucket/object: Outage: 503 for rb"):
        places.fetch(Away(), tmp_path / "copy")
