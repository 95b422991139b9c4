"""The history: search, streams in full, this week against last."""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated, Any, Literal

import msgspec
from starlette.routing import BaseRoute

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.report.shares import LOST
from abhinaya.stream.serve.api.endpoint import (
    MOST,
    Ask,
    Endpoint,
    Handler,
    Limit,
    Number,
    Operation,
    not_found,
)
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.store import detail, queries
from abhinaya.stream.serve.store.queries import Filter

FIRST_YEAR, LAST_YEAR = 1970, 9000

Words = Annotated[str, msgspec.Meta(max_length=200)]
Cursor = Annotated[str, msgspec.Meta(pattern=r"^(-?\d{1,12}(\.\d{1,9})?:\d{1,15})?$")]
Label = Literal[("", *LABELS, UNKNOWN, LOST)]  # type: ignore[valid-type]
Time = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Wanted(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}
):
    """Which segments are asked for."""

    words: Words = ""
    """All of them, the last one as a beginning; a phrase in quotes."""
    label: Label = ""
    """What was judged; `gap` for what was not."""
    party: Words = ""
    call: Words = ""
    since: Time | None = None
    until: Time | None = None
    stream: Number | None = None
    corrected: bool = False
    """Only corrected segments."""

    @property
    def filter(self) -> Filter:
        """Return the same as a filter of the store."""
        return Filter(
            words=self.words,
            label=self.label,
            party=self.party or None,
            call=self.call or None,
            since=self.since.timestamp() if self.since else None,
            until=self.until.timestamp() if self.until else None,
            stream=self.stream,
            corrected=self.corrected,
        )


class WantedPage(Wanted, frozen=True):
    """A page of segments or streams."""

    limit: Limit = 100
    before: Cursor = ""
    """`next` of the page before."""


class WantedWeek(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The week to compare with the one before."""

    day: datetime.date | None = None
    """A day of it; today if left out. Days are those of the gateway's time zone."""


class WantedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the segments of a stream, in their order."""

    after: Annotated[int, msgspec.Meta(ge=-1, le=MOST)] = -1
    """`next` of the part before."""
    limit: Limit = 200


class FoundSegment(msgspec.Struct, frozen=True):
    """A segment in its last revision."""

    number: int
    """Of the event."""
    stream_id: int
    stream: str
    call: str
    party: str
    segment: int
    wall_time: str
    start_s: float
    end_s: float
    label: str
    corrected: str | None
    """What a person says it was."""
    confidence: float | None
    revision: int
    text: str


class FoundSegments(msgspec.Struct, frozen=True):
    """Segments, the newest first."""

    segments: list[FoundSegment]
    next: str | None
    """`before` of the next page; null on the last one."""


class Totals(msgspec.Struct, frozen=True):
    """What was said, without gaps."""

    segments: int
    speech_s: float
    gaps: int
    labels: dict[str, float]
    """Seconds of each label."""


class KeptStream(Totals, frozen=True):
    """A stream of the history."""

    id: int
    run: str
    name: str
    call: str
    party: str
    source: str
    live: bool
    facts: dict[str, Any]
    """What the source says of the call; notice and consent."""
    started: str
    ended: str | None
    duration_s: float | None
    reason: str
    sound: str
    alerts: int
    open_alerts: int


class KeptStreams(msgspec.Struct, frozen=True):
    """Streams, the one that began last first."""

    streams: list[KeptStream]
    next: str | None


class StreamInFull(KeptStream, frozen=True):
    """A stream with its statistics and those of its call."""

    shares: dict[str, Any]
    """Of each label: seconds, and the longest run."""
    talk: dict[str, Any]
    """Of the call: talk time, share, turns and interruptions of each party; silence, overlap."""
    latest: dict[str, Any]
    """Latency by stage, agreement and missing votes of the latest verdicts."""
    revised: int
    """Segments whose verdict was changed later."""


class FullSegments(msgspec.Struct, frozen=True):
    """Segments in full: the last event, `revisions` (the earlier ones) and `corrections`."""

    segments: list[dict[str, Any]]
    next: int | None
    """`after` of the next part."""


class Party(msgspec.Struct, frozen=True):
    """A party, and how many streams it has."""

    party: str
    streams: int


class Parties(msgspec.Struct, frozen=True):
    """All parties."""

    parties: list[Party]


class Week(Totals, frozen=True, rename={"first": "from", "last": "to"}):
    """A week."""

    first: str
    last: str
    parties: dict[str, Totals]
    days: dict[str, Totals]


class Weeks(msgspec.Struct, frozen=True):
    """Two weeks, one after the other."""

    current: Week
    previous: Week


class ToDelete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose data to delete: a party, a call, a stream, or a fact of a call such as a number."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class Deletion(msgspec.Struct, frozen=True):
    """What was deleted."""

    streams: list[str]
    running: list[str]
    """Those that have not ended: what they say from now on is kept again."""
    events: int
    erased: bool
    """Whether nothing of it is in the file any more; if not, the next checkpoint overwrites it."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of the history."""
    file = gateway.store.file

    async def search(ask: Ask) -> dict[str, Any]:
        page: WantedPage = ask.query
        return await asyncio.to_thread(queries.segments, file, page.filter, page.limit, page.before)

    async def streams(ask: Ask) -> dict[str, Any]:
        page: WantedPage = ask.query
        return await asyncio.to_thread(queries.streams, file, page.filter, page.limit, page.before)

    async def stream(ask: Ask) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(detail.stream, file, ask.id)
        except KeyError as error:
            raise not_found(f"stream {ask.id}") from error

    async def segments(ask: Ask) -> dict[str, Any]:
        part: WantedPart = ask.query
        return await asyncio.to_thread(detail.segments, file, ask.id, part.limit, part.after)

    async def parties(_: Ask) -> dict[str, Any]:
        return {"parties": await asyncio.to_thread(queries.parties, file)}

    async def weeks(ask: Ask) -> dict[str, Any]:
        week: WantedWeek = ask.query
        day = week.day or datetime.datetime.now().astimezone().date()
        if not FIRST_YEAR <= day.year < LAST_YEAR:
            raise ApiError(400, "parameter", f"no week of the year {day.year} can be kept")
        return await asyncio.to_thread(queries.weeks, file, day.toordinal() - day.weekday())

    async def delete(ask: Ask) -> Deletion:
        found = await asyncio.to_thread(gateway.store.delete_party, ask.body.name, ask.who.name)
        gateway.board.forget(found.ids)
        return Deletion([*found.streams], [*found.running], found.events, found.erased)

    def get(
        path: str,
        handler: Handler,
        summary: str,
        answer: type[msgspec.Struct],
        query: type[msgspec.Struct] | None = None,
        refusals: tuple[int, ...] = (503,),
    ) -> Endpoint:
        made = Operation(summary, query=query, answer=answer, refusals=refusals)
        return Endpoint("GET", f"/v1/history{path}", gateway.access, made, handler)

    deleting = Operation(
        "Delete all that is kept of a name",
        role="admin",
        body=ToDelete,
        answer=Deletion,
        refusals=(503,),
    )
    parted, one = "Read segments with votes, revisions and corrections", "/streams/{id:int}"
    return [
        get("", search, "Search what was said", FoundSegments, WantedPage),
        get("/streams", streams, "List the streams that are kept", KeptStreams, WantedPage),
        get(one, stream, "Show a stream in full", StreamInFull, refusals=(404, 503)),
        get(f"{one}/segments", segments, parted, FullSegments, WantedPart),
        get("/parties", parties, "List the parties", Parties),
        Endpoint("POST", "/v1/history/deletions", gateway.access, deleting, delete),
        get("/weeks", weeks, "Compare a week with the one before", Weeks, WantedWeek),
    ]
