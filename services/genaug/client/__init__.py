"""Public Python client.

    from genaug.client import Client

    with Client() as client:                       # starts a server over GENAUG_HOME; Client("host:port") calls one
        for drawn in client.generate("generators/…", "cataract", count=16, seed=1):
            Path(f"{drawn.receipt.index}.png").write_bytes(drawn.data)     # or drawn.image, for Pillow
            assert client.regenerate(drawn.receipt).same_pixels

gRPC errors are raised as the classes of `genaug.shared.errors`.
"""

from genaug.client._client import Client, ImportResult
from genaug.client.channel import bare_channel, connect, translated
from genaug.client.images import DrawnImage
from genaug.client.uploads import ImportImage

__all__ = ["Client", "DrawnImage", "ImportImage", "ImportResult", "bare_channel", "connect", "translated"]
