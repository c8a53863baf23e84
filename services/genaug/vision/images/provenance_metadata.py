"""Receipts and provenance marks inside generated images. Without torch: the client reads them too."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image, PngImagePlugin

import genaug
from genaug.shared.digests import canonical_json
from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels

Format = Literal["PNG", "JPEG"]

_KEY = "genaug"
_QUALITY = 95
# A receipt is some hundred bytes; a text much longer is no receipt.
_LONGEST = 65_536
# IPTC's vocabulary of digital sources, which tools that show an image's origin read.
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SYNTHETIC, _TRANSFORMED = f"{_SOURCE}trainedAlgorithmicMedia", f"{_SOURCE}algorithmicallyEnhanced"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta>'
)


def encode_marked(pixels: Pixels, receipt: Mapping[str, Any], *, format: Format = "PNG") -> bytes:
    """Encode an image with its receipt: PNG in the text chunk "genaug", JPEG in its comment.

    XMP in both marks the image, in IPTC's words, as synthetic (or, of transforms, altered by a program).

    Args:
        pixels: uint8 [height, width, 1 or 3].
        receipt: The message `Receipt` as JSON.
        format: PNG, fast rather than small; or JPEG, quality 95.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    xmp = _XMP.format(source=_TRANSFORMED if receipt.get("parent_ids") and not receipt.get("sampler") else _SYNTHETIC)
    text = canonical_json(receipt).decode()
    sink = io.BytesIO()
    if format == "JPEG":
        image.save(sink, "JPEG", quality=_QUALITY, subsampling=0, comment=text.encode(), xmp=xmp.encode())
    else:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Software", f"genaug {genaug.__version__}")
        chunks.add_itxt(_KEY, text)
        chunks.add_itxt("XML:com.adobe.xmp", xmp)
        image.save(sink, "PNG", compress_level=1, pnginfo=chunks)
    return sink.getvalue()


def receipt_of(data: bytes) -> dict[str, Any]:
    """Read the receipt in an image: the message `Receipt` as JSON.

    Raises:
        InvalidArgument: reason NO_RECEIPT; it is no image, or has none.
    """
    content: Any = None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            content = image.info.get(_KEY if image.format == "PNG" else "comment")
    # Decoders of damaged files raise almost any exception.
    except Exception:
        content = None
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    if isinstance(text, str) and len(text) <= _LONGEST:
        try:
            receipt = json.loads(text)
        # RecursionError: nested too deeply.
        except (ValueError, RecursionError):
            receipt = None
        if isinstance(receipt, dict) and "generator" in receipt:
            return receipt
    raise InvalidArgument(
        "the image carries no receipt of genaug's; send the receipt itself, or the file as it was made",
        reason="NO_RECEIPT",
    )
