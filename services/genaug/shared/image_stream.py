"""Client streams of images: a config first, then one image per message, or the images of a manifest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from genaug.shared.errors import InvalidArgument
from genaug.shared.names import digest_id
from genaug.shared.store import Store

_LONGEST_ID = 256


class ImageStream:
    """A client stream of one message with `config`, then messages with `image`.

    Raises:
        InvalidArgument: the first message is no config.
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
        """Ids and encoded images, in order: of the config's manifest, or those that the caller sends.

        An id is available once its image has been read.

        Raises:
            InvalidArgument: not a key of a manifest. Later: a message without an image, an id too long.
            NotFound: the manifest, or later an image, is not in the store.
        """
        if self.config.manifest:
            return _listed(store, self.config.manifest)
        return iter(self._ids.popleft, None), self._images()

    def _images(self) -> Iterator[bytes]:
        for index, request in enumerate(self._requests):
            if request.WhichOneof("part") != "image":
                raise InvalidArgument(f"image {index}: the message holds no `image`", reason="NO_IMAGE")
            if len(request.image.id.encode()) > _LONGEST_ID:
                raise InvalidArgument(f"image {index}: its id has more than {_LONGEST_ID} bytes", reason="BAD_ID")
            self._ids.append(request.image.id)
            yield request.image.data


def _listed(store: Store, key: str) -> tuple[Iterator[str], Iterator[bytes]]:
    # Imported late: only requests with a manifest need pyarrow.
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
