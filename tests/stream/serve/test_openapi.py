"""The OpenAPI document is what the gateway does: schemathesis sends what it allows, and more."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

import httpx2
import pytest
import schemathesis
from gateways import Running, running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)
from starlette.routing import WebSocketRoute

from abhinaya.stream.serve.limits import UPLOADS

EXAMPLES = 6
CALLBACKS = {"/v1/twilio/voice"}
"""Only a provider calls these, with its own signature."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"requests_per_s": 1e5, "requests_at_once": 100_000, "files_waiting": 10_000}
    with running(tmp_path_factory.mktemp("web"), **limits) as served:
        stream = served.begin("call/customer")
        for n in range(3):
            served.say("call/customer", n, "angry")
        assert stream == 1
        over = threading.Event()
        reading = threading.Thread(target=fail_all, args=(served, over))
        reading.start()
        yield served
        over.set()
        reading.join()


def fail_all(web: Running, over: threading.Event) -> None:
    """Be the run: no input can be read."""
    while not over.wait(0.01):
        for name, _ in web.gateway.requests.take():
            web.gateway.requests.ended(name, "is not audio")


def test_every_operation_keeps_to_its_document(web: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{web.url}/v1/openapi.json")
    # that one has no end
    schema = schema.exclude(path="/v1/events")
    checked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
            )
            @given(operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case) -> None:
                # what fits the document can still be an address that cannot be opened: 422;
                # all values of a form are text, also those that were numbers
                form = [negative_data_rejection] if case.path in UPLOADS else []
                case.call_and_validate(
                    headers=web.bearer,
                    timeout=5,
                    excluded_checks=[positive_data_acceptance, *form],
                )

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong
                check()
                checked += 1
    assert checked >= 25


def test_every_route_but_sockets_and_pages_is_documented(web: Running) -> None:
    from abhinaya.stream.serve.main import TOPICS

    document = httpx2.get(f"{web.url}/v1/openapi.json").json()
    documented = {re.sub(r"{\w+}", "{}", path) for path in document["paths"]}
    for topic in TOPICS:
        for route in topic(web.gateway):
            is_socket = isinstance(route, WebSocketRoute)
            if not is_socket and route.path.startswith("/v1/") and route.path not in CALLBACKS:
                assert re.sub(r"{[^}]+}", "{}", route.path) in documented
    assert {"/v1/streams/{id}/events", "/v1/audio/transcriptions"} <= set(document["paths"])
