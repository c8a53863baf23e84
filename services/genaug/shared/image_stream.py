"""Image requests as a client stream: a config, then one image per message, or the images of a manifest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from genaug.shared.errors import InvalidArgument
from genaug.shared.names import digest_id
from genaug.shared.store import Store

_MAX_ID_BYTES = 256


class ImageStream:
    """Client stream of one message with `config`, then messages with `image`.

    Raises:
        InvalidArgument: reason NO_CONFIG; the first message has no config.
    """

    def __init__(self, requests: Iterator[Any]) -> None:
        first = next(requests, None)
        if first is None or first.WhichOneof("part") != "config":
            raise InvalidArgument("the first message of the stream must hold `config`", reason="NO_CONFIG")
        self._requests = requests
        self._ids: deque[str] = deque()
        self.config: Any = first.config
        """The request's settings."""

    def source(self, store: Store) -> tuple[Iterator[str], Iterator[bytes]]:
        """Return iterators of ids and of encoded images, in order, from the config's manifest or else from the stream.

        With a stream, take an image before its id.

        Raises:
            InvalidArgument: reason BAD_NAME; `manifest` is no key of a manifest. While iterating: NO_IMAGE, BAD_ID.
            NotFound: the manifest, or later an image, is not in the store.
        """
        if self.config.manifest:
            return _listed(store, self.config.manifest)
        return iter(self._ids.popleft, None), self._images()

    def _images(self) -> Iterator[bytes]:
        for index, request in enumerate(self._requests):
            if request.WhichOneof("part") != "image":
                raise InvalidArgument(f"image {index}: the message holds no `image`", reason="NO_IMAGE")
            if len(request.image.id.encode()) > _MAX_ID_BYTES:
                raise InvalidArgument(f"image {index}: its id has more than {_MAX_ID_BYTES} bytes", reason="BAD_ID")
            self._ids.append(request.image.id)
            yield request.image.data


def _listed(store: Store, key: str) -> tuple[Iterator[str], Iterator[bytes]]:
    # Imported here: only requests with a manifest need pyarrow.
    from genaug.shared.manifest import read_rows

    name, _, last = key.rpartition("/")
    kind = name.split("/")[0]
    if kind not in ("batches", "labels") or last != "manifest.parquet":
        raise InvalidArgument(
            f"manifest: {key!r} is neither batches/{{digest}}/manifest.parquet nor labels/{{digest}}/manifest.parquet",
            reason="BAD_NAME",
        )
    digest_id(name, kind)
    rows = read_rows(store, key)
    return (row.image_id for row in rows), store.read_ahead([row.uri for row in rows])
