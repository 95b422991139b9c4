"""The console's files: served under a strict policy, complete, and those of others unchanged."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from abhinaya.stream.serve import pages, rows

SCRIPTS = sorted(pages.FILES.glob("*.js"))
MAX_LINES = 300


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(pages.WithHeaders(Starlette(routes=pages.routes())))


def addresses() -> set[str]:
    """Every address that the page and its modules load."""
    html = (pages.FILES / "index.html").read_text("utf-8")
    found = set(re.findall(r'(?:src|href)="([^"]+)"', html))
    for script in SCRIPTS:
        imported = re.findall(r'from "\./([^"]+)"', script.read_text("utf-8"))
        found |= {f"/console/{name}" for name in imported}
    return found | {"/console/microphone-worklet.js"}


def test_every_file_that_the_page_loads_is_served_with_the_policy(client: TestClient) -> None:
    assert len(addresses()) > 20
    for address in {"/", *addresses()}:
        answer = client.get(address)
        assert answer.status_code == 200, address
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        if address.endswith(("js", "css")):  # with nosniff a wrong type would be refused
            assert answer.headers["content-type"].partition(";")[0] in {
                "text/javascript",
                "text/css",
            }


def test_what_is_not_of_the_console_is_in_no_cache(client: TestClient) -> None:
    assert client.get("/v1/streams").headers["cache-control"] == "no-store"


def test_no_path_leads_out_of_the_console(client: TestClient) -> None:
    for address in ("/console/../pages.py", "/console/%2e%2e/pages.py", "/console/missing.js"):
        assert client.get(address).status_code == 404


def test_text_is_never_inserted_as_html_and_nothing_is_inline() -> None:
    html = (pages.FILES / "index.html").read_text("utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", html)
    for script in SCRIPTS:
        text = script.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?://",
            text,
        ), script.name
        assert len(text.splitlines()) < MAX_LINES


def test_the_modules_of_others_are_as_published() -> None:
    vendor = pages.FILES / "vendor"
    rows = re.findall(
        r"^\| (\S+) \|.*\((LICENSE-\w+)\) \| (\w{64}) \|$", _text(vendor / "README.md"), re.M
    )
    assert {file for file, _, _ in rows} == {
        path.name for path in vendor.iterdir() if not path.name.startswith(("LICENSE", "README"))
    }
    for file, licence, digest in rows:
        published = _text(vendor / file).replace('from"./preact.mjs"', 'from"preact"')
        assert hashlib.sha256(published.encode()).hexdigest() == digest, file
        assert (vendor / licence).stat().st_size > 1000


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def test_a_letter_on_its_colour_is_readable() -> None:
    """4.5 is what WCAG 2 asks for small text."""
    for line in pages.palette_css().splitlines():
        colour, ink = re.findall(r"#\w+", line)
        both = sorted((_luminance(colour), _luminance(ink)), reverse=True)
        assert (both[0] + 0.05) / (both[1] + 0.05) >= 4.5, line


def test_the_page_and_the_gateway_agree_on_what_needs_attention() -> None:
    script = _text(pages.FILES / "attention.js")
    weights = re.search(r"WEIGHTS = \{(.*)\}", script)
    keeps = re.search(r"KEEPS = ([\d.]+)", script)
    assert weights
    assert keeps
    pairs = dict(pair.split(":") for pair in weights[1].split(","))
    assert {label.strip(): float(share) for label, share in pairs.items()} == rows.DISTRESS
    assert float(keeps[1]) == rows.KEEPS


def _luminance(colour: str) -> float:
    full = "".join(c * 2 for c in colour[1:]) if len(colour) == 4 else colour[1:]
    shares = [value / 255 for value in bytes.fromhex(full)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * s for w, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
