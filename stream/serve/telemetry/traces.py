"""OpenTelemetry traces: one span for each segment, with its stages. Needs the extra `otel`.

A span has times, services and causes; no words, no label, no name of a stream or person.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.log import adopt
from abhinaya.stream.serve.telemetry.causes import cause_of
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.wire.messages import Event, Verdict

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

SERVICE: Final = "abhinaya"
FLUSH_S: Final = 1.0
"""Time to send the last spans at the end."""
_NS_A_MS: Final = 1e6


class Traces:
    """A sink that makes the spans.

    Args:
        processor: takes the spans that have ended.
        profile: name of the profile.

    """

    def __init__(self, processor: SpanProcessor, profile: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": SERVICE, "abhinaya.profile": profile})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE)

    def write(self, event: Event, now_unix_s: float) -> None:
        """Make the span of a first verdict: from the end of speech until now."""
        if not isinstance(event, Verdict) or event.revision:
            return
        from opentelemetry.trace import set_span_in_context

        stages = latency_ms(event, now_unix_s)
        total_ms = stages.pop("total")
        end = _ns(1000.0 * now_unix_s)
        at_ms = 1000.0 * now_unix_s - total_ms
        segment = self._tracer.start_span(
            "segment",
            start_time=_ns(at_ms),
            attributes={
                "abhinaya.speech_s": to_seconds(event.end - event.start),
                "abhinaya.outcome": cause_of(event.reason) or "label",
                "abhinaya.missing": [f"{m.voter}: {cause_of(m.reason)}" for m in event.missing],
            },
        )
        within = set_span_in_context(segment)
        for name, ms in stages.items():
            begin = _ns(at_ms)
            stage = self._tracer.start_span(name, within, start_time=min(begin, end))
            if name == "voters":
                _votes(stage, event, begin)
            at_ms += ms
            stage.end(max(min(begin, end), min(_ns(at_ms), end)))
        segment.end(end)

    def close(self) -> None:
        """Send the last spans; the thread of a collector that does not answer is left behind."""
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(FLUSH_S)


def _votes(stage: Span, event: Verdict, at: int) -> None:
    for vote in event.votes:
        facts: dict[str, str | float] = {
            "abhinaya.voter": vote.voter,
            "abhinaya.model": vote.model,
            "abhinaya.queue_ms": vote.queue_ms,
            "abhinaya.run_ms": vote.run_ms,
            "abhinaya.batch": vote.batch_size,
        }
        stage.add_event("vote", facts, at)


def _ns(ms: float) -> int:
    return max(0, round(ms * _NS_A_MS))


def open_traces(address: str, profile: str) -> Traces:
    """Return a sink that sends its spans to a collector, as OTLP over HTTP, from another thread.

    Headers, for example with a token, come from `OTEL_EXPORTER_OTLP_HEADERS`. While the collector
    does not answer, spans are dropped.

    Raises:
        ConfigError: the address is not one of HTTP.
        ModuleNotFoundError: the extra is not installed.

    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        reason = "is not an address of HTTP without a password"
        raise ConfigError("--traces", reason, "such as http://127.0.0.1:4318/v1/traces")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    adopt("opentelemetry")
    return Traces(BatchSpanProcessor(OTLPSpanExporter(endpoint=address, timeout=5)), profile)
