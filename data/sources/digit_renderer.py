"""Draws 28 x 28 digits from the fonts that matplotlib ships, a thousand at a time.

Every glyph is rendered once at high resolution in three stroke widths; an image is then one
bilinear resampling of a glyph under a random affine map and a slight wave, plus contrast and noise.
Image i of a split depends on the seed and i only, so a larger set begins with the images of a
smaller one.
"""

from __future__ import annotations

import functools
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError

SIZE = 28
CHUNK = 1000
"""Images that are drawn from one random generator."""

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("STIXGeneralBolIta", "cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
"""The fonts that have all ten digits; matplotlib's other fonts hold symbols in their place."""

_CANVAS = 64  # glyph resolution in pixels
_GLYPH = 44  # height of a digit on the canvas
_STROKES = 3  # thin, regular, bold
_SPLITS = ("train", "test")

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def draw_chunk(seed: int, split: str, chunk: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """Draws images `chunk * CHUNK` to `(chunk + 1) * CHUNK` of a split.

    Returns:
        uint8[CHUNK, 28, 28] with ink 255 on 0, and the digits int64[CHUNK].

    Raises:
        DataError: matplotlib does not ship one of the fonts.
    """
    rng = np.random.default_rng([seed, _SPLITS.index(split), chunk])
    digits = rng.integers(0, 10, CHUNK)
    stroke, font = rng.integers(0, _STROKES, CHUNK), rng.integers(0, len(FONTS), CHUNK)
    glyph = (stroke * len(FONTS) + font) * 10 + digits
    ink = _resample(_glyphs(), glyph, *_source_positions(rng))
    ink /= np.maximum(ink.max(axis=1, keepdims=True), 1e-3)
    # Half of the images keep full contrast, so that every split of some size spans [0, 255].
    contrast = np.maximum(rng.uniform(0.5, 1.5, (CHUNK, 1)), 0.5).astype(np.float32).clip(max=1.0)
    noise = rng.standard_normal((CHUNK, SIZE * SIZE), np.float32)
    level = rng.uniform(0.0, 0.12, (CHUNK, 1)).astype(np.float32)
    pixels = np.rint((ink * contrast + noise * level).clip(0.0, 1.0) * 255.0)
    return pixels.astype(np.uint8).reshape(CHUNK, SIZE, SIZE), digits


def _source_positions(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The place on the glyph canvas of every pixel, float32[CHUNK, 784] each for x and y."""

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (CHUNK, 1)).astype(np.float32)

    grid = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    y, x = (axis.reshape(1, -1) for axis in np.meshgrid(grid, grid, indexing="ij"))
    x, y = x - uniform(-1.5, 1.5), y - uniform(-1.5, 1.5)
    x = x + uniform(0, 0.8) * np.sin(y * uniform(0.1, 0.35) + uniform(0, 2 * np.pi))
    angle = (rng.standard_normal((CHUNK, 1)) * np.radians(7)).astype(np.float32)
    shear = (rng.standard_normal((CHUNK, 1)) * 0.1).astype(np.float32)
    scale = np.float32(_CANVAS / SIZE)
    across = (np.cos(angle) * x + np.sin(angle) * y) * scale / uniform(0.85, 1.15)
    down = (np.cos(angle) * y - np.sin(angle) * x) * scale / uniform(0.85, 1.15)
    centre = np.float32((_CANVAS - 1) / 2)
    return across + shear * down + centre, down + centre


def _resample(glyphs: Floats, which: npt.NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """Bilinear samples of one glyph per row at (x, y), float32[CHUNK, 784]; 0 outside."""
    limit = np.float32(_CANVAS - 1.001)
    x, y = x.clip(0, limit), y.clip(0, limit)  # the canvas has an empty border
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, below = x - column, y - row
    at = which[:, None].astype(np.int32) * (_CANVAS * _CANVAS) + row * _CANVAS + column
    flat = glyphs.reshape(-1)
    top = flat[at] * (1 - right) + flat[at + 1] * right
    bottom = flat[at + _CANVAS] * (1 - right) + flat[at + _CANVAS + 1] * right
    sampled: Floats = top * (1 - below) + bottom * below
    return sampled


@functools.cache
def _glyphs() -> Floats:
    """All glyphs, float32[stroke * font * digit, 64, 64] in [0, 1]."""
    from scipy import ndimage

    regular = np.stack([_glyph(path, str(digit)) for path in _font_files() for digit in range(10)])
    strokes = (
        ndimage.grey_erosion(regular, size=(1, 2, 2)),
        regular,
        ndimage.grey_dilation(regular, size=(1, 4, 4)),
    )
    # The canvas has 2.3 times the resolution of the image: smooth it, or sampling aliases.
    return np.concatenate([ndimage.gaussian_filter(s, (0, 1.0, 1.0)) for s in strokes])


def _glyph(font_file: Path, digit: str) -> Floats:
    """One digit in the middle of a canvas, `_GLYPH` pixels high."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (4 * _CANVAS, 4 * _CANVAS))
    font = ImageFont.truetype(str(font_file), 2 * _CANVAS)
    ImageDraw.Draw(canvas).text((_CANVAS, _CANVAS), digit, fill=255, font=font)
    ink = canvas.crop(canvas.getbbox())
    width = min(round(ink.width * _GLYPH / ink.height), _CANVAS - 8)
    placed = Image.new("L", (_CANVAS, _CANVAS))
    corner = ((_CANVAS - width) // 2, (_CANVAS - _GLYPH) // 2)
    placed.paste(ink.resize((width, _GLYPH), Image.Resampling.BOX), corner)
    return np.asarray(placed, np.float32) / np.float32(255)


def _font_files() -> list[Path]:
    """The font files of matplotlib, which need not be imported for them."""
    folder = distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf")
    files = [Path(str(folder), f"{name}.ttf") for name in FONTS]
    for file in files:
        if not file.is_file():
            raise DataError(
                f"rendered_digits needs the font {file}, which this matplotlib does not ship",
                hint="pip install -r requirements.lock",
            )
    return files
