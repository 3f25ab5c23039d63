"""Which room a scan shows, by the names that public data sets give their scans.

Scans of one room overlap: they belong into one split, and are no independent cases.
"""

from __future__ import annotations

import re

# ScanNet's scene0000_01 and 7-Scenes' chess/seq-01; elsewhere a room has one scan.
_SCANS = re.compile(r"(?P<scannet>(?:.*/)?scene\d+)_\d+|(?P<seven>.+)/seq-\d+")


def room_of_scan(scan: str) -> str:
    """The room: scene0000_01 is a scan of scene0000, chess/seq-01 one of chess."""
    found = _SCANS.fullmatch(scan)
    return found["scannet"] or found["seven"] if found else scan
