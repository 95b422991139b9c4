"""A thin client of `abhinaya serve`; it needs only websockets and msgspec.

    from abhinaya.client import Client

    client = Client("http://127.0.0.1:8377", token)
    for event in client.events():
        if event["type"] == "verdict":
            print(event["stream"], event["label"])

`aevents` is the same for asyncio. Both connect again when the connection is lost, and continue by
number, so no stored event is missing and none comes twice.
"""

from abhinaya.client.gateway import Client, GatewayError
from abhinaya.client.listening import Listening

__all__ = ["Client", "GatewayError", "Listening"]
