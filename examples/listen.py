"""Label a live source while somebody speaks: the microphone, an address, or a file played live.

python examples/listen.py mic
python examples/listen.py call.wav
"""

import asyncio
import sys

from abhinaya.stream import Monitor


async def main(source: str) -> None:
    """Print every verdict, and the partial ones that come before it."""
    with Monitor() as monitor:
        live = source == "mic" or "://" in source
        async for verdict in monitor.alisten(source, partials=True, realtime=not live):
            mark = " " if verdict.final else "~"
            print(f"{mark} {verdict.start_s:7.2f}  {verdict.label:9} {verdict.text}", flush=True)


asyncio.run(main(sys.argv[1]))
