"""Named colors as sRGB: high dynamic range (HLG, PQ) and wide primaries brought to a screen.

Light is display light, linear, with 1 for the white of an ordinary video: 203 nits of HDR
(ITU-R BT.2408). Above four fifths of it bright colors are pressed together, hue kept. Ordinary
videos (BT.601, BT.709) are taken as they are: what their curve says is what screens show. Stills
that have such names instead of a profile are brought to sRGB the same way.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8, UInt16

_HLG, _PQ, _SRGB = "arib-std-b67", "smpte2084", "iec61966-2-1"
# A name of our own, of primaries and curve: ffmpeg has none for the colors of cameras' stills.
ADOBE_RGB = "adobe-rgb"
_ADOBE_GAMMA = 563 / 256
_WHITE_NITS, _HLG_PEAK_NITS, _PQ_PEAK_NITS = 203.0, 1000.0, 10000.0
# HLG's system gamma for a display of 1000 nits, and the constants of its curve (BT.2100).
_HLG_GAMMA = 1.2
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
# PQ's constants (SMPTE ST 2084).
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
# Screens undo ordinary codings by this power (BT.1886).
_SCREEN_GAMMA = 2.4
# Where the pressing together of bright colors begins.
_KNEE = 0.8
_D65 = (0.3127, 0.3290)
_REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# Chromaticities by ffmpeg's name; those of BT.601 are BT.709's to within a few levels.
_WIDE = {
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "smpte431": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "smpte432": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    ADOBE_RGB: ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
_LUMA_2020 = (0.2627, 0.6780, 0.0593)


def is_ordinary(primaries: str, transfer: str) -> bool:
    """Whether the values are sRGB's as they are."""
    return transfer not in (_HLG, _PQ) and primaries not in _WIDE


def to_srgb(
    coded: UInt16[np.ndarray, "*n 3"], primaries: str, transfer: str
) -> UInt8[np.ndarray, "*n 3"]:
    """RGB of the named colors, 16 bits, as 8-bit sRGB."""
    values = coded.astype(np.float32) / 65535
    if transfer in (_SRGB, ADOBE_RGB):
        light = _srgb_light(values) if transfer == _SRGB else values**_ADOBE_GAMMA
        return _rounded(_srgb_curve(np.clip(light @ _to_rec709(primaries).T, 0, 1)))
    if transfer not in (_HLG, _PQ):
        wide = np.maximum(values**_SCREEN_GAMMA @ _to_rec709(primaries).T, 0)
        return _rounded(np.minimum(wide, 1) ** (1 / _SCREEN_GAMMA))
    # HDR without stated primaries has those of BT.2020.
    matrix = _to_rec709(primaries if primaries in _WIDE or primaries == "bt709" else "bt2020")
    light = _hlg_light(values) if transfer == _HLG else _pq_light(values)
    return _rounded(_srgb_curve(_pressed(np.maximum(light @ matrix.T, 0))))


def _srgb_light(values: np.ndarray) -> Float[np.ndarray, "*n 3"]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _hlg_light(values: np.ndarray) -> Float[np.ndarray, "*n 3"]:
    """Scene light by the inverse curve, then what a display of 1000 nits makes of it."""
    high = (np.exp((values - _HLG_C) / _HLG_A) + _HLG_B) / 12
    scene = np.where(values <= 0.5, values**2 / 3, high)
    luma = (scene @ np.float32(_LUMA_2020))[..., None]
    return scene * np.maximum(luma, 1e-6) ** (_HLG_GAMMA - 1) * (_HLG_PEAK_NITS / _WHITE_NITS)


def _pq_light(values: np.ndarray) -> Float[np.ndarray, "*n 3"]:
    power = values ** (1 / _M2)
    share = np.maximum(power - _C1, 0) / (_C2 - _C3 * power)
    return share ** (1 / _M1) * (_PQ_PEAK_NITS / _WHITE_NITS)


def _to_rec709(primaries: str) -> Float[np.ndarray, "3 3"]:
    """Linear RGB of BT.709 from that of the named primaries."""
    wide = _xyz_from_rgb(_WIDE.get(primaries, _REC709))
    return np.linalg.solve(_xyz_from_rgb(_REC709), wide).astype(np.float32)


def _xyz_from_rgb(primaries) -> np.ndarray:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    return columns * np.linalg.solve(columns, white)


def _pressed(light: np.ndarray) -> np.ndarray:
    """Light of which no channel exceeds 1: 1 - (1 - k)^2 / (x + 1 - 2 k) above the knee k."""
    peak = light.max(axis=-1, keepdims=True)
    above = np.maximum(peak, _KNEE)
    pressed = 1 - (1 - _KNEE) ** 2 / (above + 1 - 2 * _KNEE)
    return light * np.where(peak > _KNEE, pressed / above, 1)


def _srgb_curve(linear: np.ndarray) -> np.ndarray:
    high = 1.055 * np.maximum(linear, 1e-8) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, high)


def _rounded(values_01: np.ndarray) -> UInt8[np.ndarray, "*n 3"]:
    return np.round(np.clip(values_01, 0, 1) * 255).astype(np.uint8)
