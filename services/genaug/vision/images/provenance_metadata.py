"""What a made image says of itself: its receipt, and that it is synthetic. Without torch: the client reads it too."""

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
# A receipt is some hundred bytes; what is much longer is none of ours.
_LONGEST = 65_536
# IPTC's vocabulary of digital sources: what tools that show where an image comes from look for.
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SYNTHETIC, _TRANSFORMED = f"{_SOURCE}trainedAlgorithmicMedia", f"{_SOURCE}algorithmicallyEnhanced"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta>'
)


def encode_marked(pixels: Pixels, receipt: Mapping[str, Any], *, format: Format = "PNG") -> bytes:
    """An encoded image that carries its receipt.

    PNG has it in the text chunk "genaug", JPEG in its comment; both say in XMP, in IPTC's words, that the image is
    synthetic (or, of transforms, altered by a program).

    Args:
        pixels: uint8 [height, width, 1 or 3].
        receipt: The message `Receipt` as JSON.
        format: PNG, fast rather than small; or JPEG, quality 95.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    xmp = _XMP.format(source=_TRANSFORMED if receipt.get("parent_ids") and not receipt.get("sampler") else _SYNTHETIC)
    said = canonical_json(receipt).decode()
    sink = io.BytesIO()
    if format == "JPEG":
        image.save(sink, "JPEG", quality=_QUALITY, subsampling=0, comment=said.encode(), xmp=xmp.encode())
    else:
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", f"genaug {genaug.__version__}")
        text.add_itxt(_KEY, said)
        text.add_itxt("XML:com.adobe.xmp", xmp)
        image.save(sink, "PNG", compress_level=1, pnginfo=text)
    return sink.getvalue()


def receipt_of(data: bytes) -> dict[str, Any]:
    """The receipt that an image carries: the message `Receipt` as JSON.

    Raises:
        InvalidArgument: reason NO_RECEIPT: it is no image, or carries none.
    """
    said: Any = None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            said = image.info.get(_KEY if image.format == "PNG" else "comment")
    # Decoders of damaged files raise almost anything.
    except Exception:
        said = None
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    if isinstance(text, str) and len(text) <= _LONGEST:
        try:
            found = json.loads(text)
        # Nested too deeply to be read.
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "generator" in found:
            return found
    raise InvalidArgument(
        "the image carries no receipt of genaug's; send the receipt itself, or the file as it was made",
        reason="NO_RECEIPT",
    )
