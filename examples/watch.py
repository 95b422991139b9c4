"""Print the labels of all streams of `abhinaya serve` as they come; it goes on after a lost line.

python examples/watch.py http://127.0.0.1:8377 ~/.local/share/abhinaya/token
"""

import sys
from pathlib import Path

from abhinaya.client import Client

address, token = sys.argv[1], Path(sys.argv[2]).read_text().strip()
for event in Client(address, token).events(after=0):
    if event["type"] == "verdict" and event["final"]:
        words = (event["transcript"] or {}).get("text", "")
        print(f"{event['start_s']:7.2f}  {event['stream']}  {event['label']:9} {words}", flush=True)
