"""Photographs whose metadata stop the decoder: the same file without them.

Only what describes the pixels is kept. Two steps, so that no more is lost than must be: first
notes and previews go, then everything but what the decoder needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"tIME"}
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL"}
# APP1 holds EXIF, APP14 how the colors are coded; color profiles are known by their first bytes.
_APP0, _APP1, _APP14, _APP15, _SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xDA


def without_metadata(data: bytes) -> Iterator[bytes]:
    """The file with less and less beside its pixels; nothing for other kinds than JPEG and PNG."""
    if data.startswith(b"\xff\xd8"):
        yield _jpeg(data, lambda code, body: code in (_APP1, _APP14) or body[:4] == b"ICC_")
        yield _jpeg(data, lambda code, body: code == _APP14)
    elif data.startswith(_PNG_START):
        yield _png(data, lambda kind: kind not in _PNG_TEXTS)
        yield _png(data, lambda kind: kind in _PNG_PIXELS)


def _jpeg(data: bytes, keeps) -> bytes:
    """A JPEG with those application segments that ``keeps(code, body)``; comments go as well."""
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        code = data[at + 1]
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        optional = _APP0 <= code <= _APP15 or code == 0xFE
        if not optional or (code != 0xFE and keeps(code, data[at + 4 : end])):
            parts.append(data[at:end])
        at = max(end, at + 2)
    return b"".join([*parts, data[at:]])


def _png(data: bytes, keeps) -> bytes:
    """A PNG with the chunks whose kind ``keeps``."""
    parts, at = [_PNG_START], len(_PNG_START)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if keeps(kind):
            parts.append(data[at:end])
        at = end
    return b"".join(parts)
