"""Decoding of untrusted images, pixel arrays, PNG. Without torch: assembly uses it."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from genaug.schema.datasets import Window
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.memory_budget import DECODING
from genaug.vision.images.windows import Values, renderer

R = TypeVar("R")

Pixels = NDArray[np.uint8]
"""Decoded image, uint8 [height, width, channels], channels 1 (grey) or 3 (RGB)."""

MAX_PIXELS = 64_000_000
MIN_SIDE = 4
# Formats with a decoder of pixels alone: none that runs programs (EPS), renders drawings (WMF) or has layers (PSD).
# JPEG includes MPO. TGA has no mark at its beginning, so it is tried last.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "PCX", "SGI", "TGA")

# Pillow's check of decompression bombs only warns; `opened` has a stricter one, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Warnings of odd metadata. Once for all threads: `catch_warnings` restores another thread's filters.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Pixels of a band: images are converted band by band, so that no second copy of a large one is held.
_BAND = 1 << 20
# Pages of a TIFF that are looked at.
_PAGES = 16
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_KIND_OF_PAGE, _TIFF_SAMPLE_FORMAT = 258, 262, 254, 339
_SIGNED = 2
_ORIENTATION = 0x0112
# Bytes per pixel of Pillow's storage; 4 for other modes.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# Bytes per pixel that decoders need beside it: coefficients of a progressive JPEG, whole frames.
_DECODER = {"JPEG": 6, "MPO": 6, "WEBP": 12, "AVIF": 8, "JPEG2000": 16}


def decode(data: bytes, *, window: Window | None = None) -> Pixels:
    """Decode an encoded image: EXIF orientation applied, 8 bits, grey or RGB.

    Transparency is put on black; CMYK and others become RGB. Of 16-bit colour images, the high bytes are read.

    Args:
        data: The file.
        window: Maps the values of a deep image, one with more than 8 bits per value, to grey levels.

    Raises:
        InvalidArgument: reason UNREADABLE (not an image of `FORMATS`, damaged, or deep where there is no window),
            TOO_LARGE (more than `MAX_PIXELS`), TOO_SMALL (a side below `MIN_SIDE`) or SEVERAL_FRAMES.
    """
    with opened(data) as image:
        return image.pixels(window)


def with_pixels(data: bytes, use: Callable[[Pixels], R], *, window: Window | None = None) -> R:
    """Return `use` of the decoded image. Until it returns, the image counts in the budget of all decoders.

    Raises:
        InvalidArgument: see `decode`.
    """
    with opened(data) as image:
        return use(image.pixels(window))


@contextmanager
def opened(data: bytes) -> Iterator[EncodedImage]:
    """Open an image, once the budget of all decoders has room for its pixels.

    Raises:
        InvalidArgument: see `decode`.
    """
    with _damage():
        Image.init()
        file = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    with file:
        width, height = file.size
        if width * height > MAX_PIXELS:
            raise InvalidArgument(
                f"{width}×{height} pixels are more than {MAX_PIXELS}; scale it down", reason="TOO_LARGE"
            )
        if min(width, height) < MIN_SIDE:
            raise InvalidArgument(f"{width}×{height} pixels: a side is below {MIN_SIDE}", reason="TOO_SMALL")
        with _damage():
            if _has_several_frames(file):
                raise InvalidArgument("several frames; send them as images of their own", reason="SEVERAL_FRAMES")
            image = EncodedImage(file, data)
        with DECODING.reserve(image.decoded_bytes):
            yield image


@contextmanager
def _damage() -> Iterator[None]:
    """Translate errors of decoders: those of damaged files are almost any exception, and each means the same."""
    try:
        yield
    except InvalidArgument:
        raise
    except UnidentifiedImageError:
        raise InvalidArgument(f"not a {', '.join(FORMATS)} image", reason="UNREADABLE") from None
    except Exception as error:
        raise InvalidArgument(f"damaged image ({type(error).__name__})", reason="UNREADABLE") from None


class EncodedImage:
    """An opened image, not decoded yet; see `opened`."""

    def __init__(self, file: Image.Image, data: bytes) -> None:
        self._file = file
        self._data = data
        tags = getattr(file, "tag_v2", {})
        bits = 8
        if file.format == "TIFF":
            bits = max(tags.get(_TIFF_BITS, (1,)))
        elif file.format == "PNG":
            bits = data[24]
        elif file.format == "SGI":
            bits = 8 * data[3]
        formats = tags.get(_TIFF_SAMPLE_FORMAT, (1,))
        self._is_unsigned = formats == (1,)
        self._is_signed_byte = file.mode == "L" and formats == (_SIGNED,)
        self._is_inverted = tags.get(_TIFF_PHOTOMETRIC) == 0
        self._bits = bits
        # Read now: decoding takes the file's parts away.
        self._scale = _scale(file, data)
        self.is_deep = file.mode[0] in "IF" or self._is_signed_byte
        """Whether its values have more than 8 bits, or a sign: a window maps them to grey levels."""
        self.has_high_bytes = not self.is_deep and bits > 8
        """Whether its values have 16 bits, of which Pillow reads the higher 8: colour, or grey with transparency."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._file.size

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding needs at most, apart from the file."""
        file = self._file
        stored = _STORED.get(file.mode, 4)
        pixels = 1 if self.is_deep or file.mode in ("1", "L") else 3
        # The strips of a TIFF may be as large as the image.
        decoder = stored if file.format == "TIFF" else _DECODER.get(file.format or "", 0)
        if file.format in ("JPEG", "MPO") and not file.info.get("progressive"):
            decoder = 0
        return file.width * file.height * (stored + pixels + decoder)

    def values(self) -> Iterator[Values]:
        """Yield the values of a deep image as bands of rows, as they are in the file, apart from its orientation.

        Raises:
            InvalidArgument: reason UNREADABLE; it is damaged, or values are NaN or infinite.
        """
        for band in self._bands():
            values = np.asarray(band)
            if self._is_signed_byte:
                values = values.view(np.int8)
            elif values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InvalidArgument("some values are NaN or infinite; replace them", reason="UNREADABLE")
            elif values.dtype == np.int32 and self._file.format == "TIFF" and self._is_unsigned:
                values = values.view(np.uint32)
            yield self._scale(values)

    def pixels(self, window: Window | None = None) -> Pixels:
        """Decode it; see `decode`. The file is closed then.

        Raises:
            InvalidArgument: reason UNREADABLE.
        """
        if self.is_deep and window is None:
            raise InvalidArgument(
                "its values have more than 8 bits, and nothing says which of them are black and white; send it with 8 "
                "bits per value, or import it with others, whose window is found or given",
                reason="UNREADABLE",
            )
        bands = self._rendered(window) if self.is_deep and window else map(_to_pixels, self._bands())
        with _damage():
            # Size, mode and orientation are known for certain once it is loaded.
            self._file.load()
            channels = 1 if self.is_deep or self._file.mode in ("1", "L") else 3
            pixels = np.empty((self._file.height, self._file.width, channels), np.uint8)
            row = 0
            for band in bands:
                pixels[row : row + len(band)] = band
                row += len(band)
            orientation = self._file.getexif().get(_ORIENTATION, 1)
            self._file.close()
        return _turned(pixels, orientation)

    def _rendered(self, window: Window) -> Iterator[Pixels]:
        render = None
        for values in self.values():
            render = render or renderer(window, values.dtype)
            grey = render(values)
            yield (255 - grey if self._is_inverted else grey)[:, :, None]

    def _bands(self) -> Iterator[Image.Image]:
        with _damage():
            self._file.load()
        file = self._file
        rows = max(1, _BAND // file.width)
        if rows >= file.height:
            yield file
            return
        for top in range(0, file.height, rows):
            yield file.crop((0, top, file.width, min(top + rows, file.height)))


def _scale(file: Image.Image, data: bytes) -> Callable[[Values], Values]:
    """Return the function that undoes the scaling to 16 bits of Pillow's decoders of PGM and JPEG 2000."""
    if file.format == "PPM" and file.mode == "I":
        arguments = file.tile[0].args  # type: ignore[attr-defined]
        maximum = 65535 if isinstance(arguments, str) else arguments[-1]
        return lambda values: np.rint(values * (maximum / 65535)).astype(np.uint16)
    if file.format == "JPEG2000" and file.mode.startswith("I"):
        # The first component's precision, with its sign in the highest bit, in the segment SIZ.
        component = data[data.index(b"\xff\x4f\xff\x51") + 42]
        bits, is_signed = (component & 0x7F) + 1, component >> 7
        offset = is_signed << (bits - 1)
        return lambda values: (values >> (16 - bits)).astype(np.int32) - offset if offset else values >> (16 - bits)
    return lambda values: values


def _has_several_frames(file: Image.Image) -> bool:
    # MPO is a camera's JPEG, with previews or the other eye's picture after the first one.
    if file.format == "MPO" or not getattr(file, "is_animated", False):
        return False
    if file.format != "TIFF":
        return True
    # Further pages may be reduced copies (bit 0) or masks (bit 2) of the first.
    try:
        for page in range(1, _PAGES):
            file.seek(page)
            if not file.tag_v2.get(_TIFF_KIND_OF_PAGE, 0) & 0b101:  # type: ignore[attr-defined]
                return True
    except EOFError:
        pass
    file.seek(0)
    return False


def _to_pixels(image: Image.Image) -> Pixels:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("RGB"))


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def is_constant(pixels: Pixels) -> bool:
    """Whether all pixels are one color, within 2 grey levels: no photograph."""
    # Channel by channel: numpy's reduction along a short last axis is ten times slower.
    return all(int(channel.max()) - int(channel.min()) <= 2 for channel in pixels.transpose(2, 0, 1))


def pixel_sha256(pixels: Pixels) -> str:
    """sha256 of height, width, channels (big-endian uint32) and the pixels, row by row."""
    digest = hashlib.sha256(struct.pack(">3I", *pixels.shape))
    digest.update(np.ascontiguousarray(pixels).reshape(-1).data)
    return digest.hexdigest()


def encode_png(pixels: Pixels) -> bytes:
    """Encode `pixels` as PNG, fast rather than small."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert between grey and RGB (ITU-R 601 luma), so that the last axis is `channels` (1 or 3)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def fitted(pixels: Pixels, *, image_size: int, channels: int, pre_resize: int = 0) -> Pixels:
    """Crop an image to the centred square and resize it for a network, first to `pre_resize` pixels unless that is 0.

    After the pre-resize, photographs have no finer detail than images generated at that size.

    Returns:
        uint8 [image_size, image_size, channels].
    """
    return with_channels(resize(resize(pixels, pre_resize) if pre_resize else pixels, image_size), channels)


def resize(pixels: Pixels, size: int) -> Pixels:
    """Crop the centred square and scale it to `size`×`size` (Pillow's BILINEAR: area-weighted when reducing)."""
    height, width, channels = pixels.shape
    if (height, width) == (size, size):
        return pixels
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    image = Image.fromarray(square[:, :, 0] if channels == 1 else square)
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return scaled[:, :, None] if channels == 1 else scaled
