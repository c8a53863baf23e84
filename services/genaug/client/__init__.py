"""The public Python client.

    from genaug.client import Client

    with Client() as client:                       # starts a server over GENAUG_HOME; Client("host:port") calls one
        for image in client.generate("generators/…", "cataract", count=16, seed=1):
            Path(f"{image.receipt.index}.png").write_bytes(image.data)

Errors are those of `genaug.shared.errors`, whatever the wire says.
"""

from genaug.client._client import Client
from genaug.client.channel import bare_channel, connect, translated
from genaug.client.uploads import ImportImage

__all__ = ["Client", "ImportImage", "bare_channel", "connect", "translated"]
