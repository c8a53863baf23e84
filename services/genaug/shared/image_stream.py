"""Images that callers send in a stream, or name by a manifest: what to do with them first, then one in each message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from genaug.shared.errors import InvalidArgument
from genaug.shared.names import digest_id
from genaug.shared.store import Store
from genaug.v1 import common_pb2

_LONGEST_ID = 256


class InlineStream:
    """A stream of messages with a part `config`, then parts `image`.

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
        """What to do."""

    def source(self, store: Store) -> tuple[Iterator[str], Iterator[bytes]]:
        """Ids and encoded images, in order: of the config's manifest, or those that the caller sends.

        An id is there once its image has been read.

        Raises:
            InvalidArgument: the manifest's key is none of ours. Later: a message without an image, an id too long.
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
    # Only callers who name a manifest need its library.
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


def precision_of(number: int) -> str:
    """The name of a `genaug.v1.Precision`, FLOAT32 where none is said.

    Raises:
        InvalidArgument: there is none of that number.
    """
    known = common_pb2.Precision
    if number not in known.values():
        raise InvalidArgument(f"precision: there is no number format {number}", reason="UNKNOWN_PRECISION")
    return known.Name(known.PRECISION_FLOAT32 if not number else known.ValueType(number))
