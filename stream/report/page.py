"""The page around the parts: one file, which loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Final

from abhinaya.stream.report import sections
from abhinaya.stream.report.gather import Account
from abhinaya.stream.report.html import text
from abhinaya.stream.report.transcript import transcript
from abhinaya.stream.sinks.palette import COLOURS

PACKAGE: Final = "abhinaya.stream.report"


def page(account: Account) -> str:
    """Give the report as HTML."""
    script = _asset("page.js")
    colours = "".join(f".e-{label}{{--c:{colour}}}" for label, colour in COLOURS.items())
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    streams = "".join(sections.stream(account, one) for one in account.streams.values())
    talks = "".join(sections.conversations(account))
    body = [
        _header(account.title),
        sections.facts(account),
        "<main>",
        f"<h2>Over time</h2>{sections.legend()}{streams}",
        f"<h2>Conversation</h2>{talks}" if talks else "",
        f'<h2>Voters</h2><section class="card">{sections.voters(account)}</section>',
        f'<h2>Gaps and troubles</h2><section class="card">{sections.gaps(account)}</section>',
        f'<h2>Transcript</h2><section class="card transcript">{transcript(account)}</section>',
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(account.title)} · Abhinaya</title>"
        f"<style>{_asset('page.css')}{colours}</style></head>\n<body>"
        + "\n".join(body)
        + f"<script>{script}</script></body></html>\n"
    )


def _header(title: str) -> str:
    return (
        '<header><div><p class="kicker">Abhinaya · speech emotion report</p>'
        f"<h1>{text(title)}</h1></div>"
        '<button type="button" id="theme" hidden>Dark or light</button></header>'
    )


def _asset(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
