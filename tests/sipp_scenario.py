"""A recorder's client played by sipp: invites with metadata, streams two parties, hangs up."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from recorder_client import BOUNDARY, PEOPLE, metadata, multipart, sdp, sdp_line

needs_sipp = pytest.mark.skipif(
    not shutil.which("sipp"), reason="needs sipp: apt-get install sip-tester"
)

HEAD = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:src@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:srs@[remote_ip]:[remote_port]>{to}
Call-ID: [call_id]
CSeq: {number} {method}
Contact: <sip:src@[local_ip]:[local_port];transport=[transport]>;+sip.src
Max-Forwards: 70
"""
SENDER = Path(__file__).with_name("rtp_sender.py")


def _request(method: str, number: int, body: str = "", more: str = "") -> str:
    to = "" if number == 1 and method == "INVITE" else "[peer_tag_param]"
    head = f"{method} sip:srs@[remote_ip]:[remote_port] SIP/2.0\n"
    head += HEAD.format(to=to, number=number, method=method) + more
    return f'<send retrans="500"><![CDATA[\n{head}Content-Length: [len]\n\n{body}]]></send>'


def scenario(first: Path, second: Path, seconds: float) -> str:
    """Return the scenario.

    Args:
        first: raw G.711 of the first party, which sipp itself sends.
        second: that of the second, which a program sends that sipp starts.
        seconds: length of the call.

    """
    lines = sdp(
        sdp_line(0, "1").replace("audio 0", "audio [rtpstream_audio_port]"), sdp_line(40_002, "2")
    )
    body = multipart(
        ("application/sdp", lines), ("application/rs-metadata+xml", metadata(PEOPLE))
    ).replace("]]>", "")
    more = "Require: siprec\nAccept: application/sdp, application/rs-metadata\n"
    more += f"Content-Type: multipart/mixed;boundary={BOUNDARY}\n"
    command = f"{sys.executable} {SENDER} {second} [$port]"
    ack = _request("ACK", 1).replace('<send retrans="500">', "<send>")
    return f"""<?xml version="1.0"?>
<scenario name="siprec">
{_request("INVITE", 1, body.replace(chr(13), ""), more)}
<recv response="100" optional="true"/>
<recv response="200"><action>
<ereg regexp="m=audio ([0-9]+).*m=audio ([0-9]+)" search_in="body" assign_to="all,one,port"/>
</action></recv>
{ack}
<nop><action>
<exec rtp_stream="{first},1,0,PCMU/8000"/>
<exec command="{command}"/>
<log message="[$all] [$one] [$port]"/>
</action></nop>
<pause milliseconds="{round(seconds * 1000) + 700}"/>
{_request("BYE", 2)}
<recv response="200"/>
</scenario>
"""
