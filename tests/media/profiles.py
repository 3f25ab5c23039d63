"""Small ICC profiles, written by hand (test helper)."""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
D65_XY = (0.3127, 0.3290)
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256


def xyz_from_rgb(primaries, white=D65_XY):
    """Linear RGB to XYZ, white of luminance 1."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, [white[0] / white[1], 1, (1 - sum(white)) / white[1]])


def srgb_of(rgb, primaries, gamma):
    """uint8 sRGB of a color of other primaries, coded by a power, as a viewer shows it."""
    linear = np.linalg.solve(
        xyz_from_rgb(SRGB), xyz_from_rgb(primaries) @ (np.array(rgb) / 255) ** gamma
    )
    linear = np.clip(linear, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(coded * 255)


def _number(value):
    return struct.pack(">i", round(value * 65536))


def _profile(space, connection, kind, tags):
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for key, data in tags.items():
        data += bytes(-len(data) % 4)
        table += key + struct.pack(">II", offset, len(data))
        body, offset = body + data, offset + len(data)
    head = struct.pack(">I4sI4s4s4s", offset, b"none", 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_number, D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _texts(name):
    name = name.encode() + b"\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(79)
    xyz = b"XYZ " + bytes(4) + b"".join(map(_number, D50))
    return {b"desc": desc, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz}


def rgb_profile(primaries, gamma):
    """Matrix and power; adapted to D50 by Bradford's matrix, as profiles are."""
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    matrix = xyz_from_rgb(primaries)
    scale = np.diag((cone @ D50) / (cone @ matrix.sum(axis=1)))
    columns = (np.linalg.inv(cone) @ scale @ cone @ matrix).T
    tags = _texts("test")
    for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True):
        tags[key] = b"XYZ " + bytes(4) + b"".join(map(_number, column))
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(
        b"RGB ", b"XYZ ", b"mntr", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    )


def cmyk_profile(lightness):
    """A press that prints all colors as one gray of this CIE lightness, and black as black."""
    lab = bytes([round(lightness * 2.55), 128, 128, 0, 128, 128])
    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += b"".join(_number(v) for v in np.eye(3).ravel())
    table += identity * 4 + lab * 8 + identity * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", _texts("test") | {b"A2B0": table})
