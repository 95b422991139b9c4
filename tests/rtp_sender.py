"""Sends a file of G.711 in real time as RTP, over loopback: python rtp_sender.py FILE PORT."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from recorder_client import rtp

if __name__ == "__main__":
    codes, port = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        begin = time.monotonic()
        for i in range(0, len(codes), 160):
            time.sleep(max(0.0, begin + i / 8_000 - time.monotonic()))
            # across the wrap of both counters
            packet = rtp(65_500 + i // 160, 0xFFFF_F000 + i, codes[i : i + 160])
            sender.sendto(packet, ("127.0.0.1", port))
