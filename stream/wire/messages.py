"""Every type that crosses a process boundary, and nothing else.

    front -> hub    Hello, Known, Segment, Gap, End,    hub -> front   Welcome, Credit, Introduce,
                    Remark, Activity, Beat                             Refused
    node  -> hub    Ready, Transcript, Vote, Failed,    hub -> node    Task, Cancel, Drain, Refused,
                    Beat                                               Introduce
    sink  -> hub    Subscribe, Seen, Died               hub -> sink    Notice, Introduce

A `Notice` numbers what people want to know: StreamStarted, Verdict, Gap, StreamEnded, NodeUp,
NodeDown, FrontDown, Remark, Status, Activity. Audio and arrays are `Payload`s: on the wire each is
a raw frame behind the header, in the process a view of that frame. Positions are samples at 16 kHz
from the first sample of the stream; wall-clock times are Unix seconds.

While somebody speaks, the segment so far travels as a partial: a `Segment` whose `part` counts from
1, where the whole one has 0. Answers and verdicts repeat the part. A partial is sent once and never
again, nobody keeps it, and it ends with the segment.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import to_seconds

DTYPES: Final = ("int16", "float32")


class Payload:
    """An array whose bytes travel as a raw frame, untouched by whoever only passes it on.

    Not a dataclass: msgspec would then write the bytes into the header.

    Args:
        dtype: one of DTYPES, little-endian.
        shape: of the array.
        buffer: anything with the buffer protocol: bytes, a memoryview, a ZeroMQ frame.

    """

    __slots__ = ("buffer", "dtype", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], buffer: Any) -> None:
        self.dtype = dtype
        self.shape = shape
        self.buffer = buffer

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Payload:
        """Wrap an int16 or float32 array without copying it if it is contiguous."""
        if array.dtype.name not in DTYPES:
            raise TypeError(f"a payload is one of {DTYPES}, not {array.dtype}")
        contiguous = np.ascontiguousarray(array)
        return cls(contiguous.dtype.name, contiguous.shape, contiguous.data)

    def array(self) -> npt.NDArray[Any]:
        """Return the array as a read-only view of the frame's bytes."""
        view = np.frombuffer(self.buffer, dtype=np.dtype(self.dtype).newbyteorder("<"))
        view.flags.writeable = False
        return view.reshape(self.shape)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """Frozen, tagged with its class name; unknown fields are refused."""


# --- front -> hub ---------------------------------------------------------------------------------


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One channel of one input."""

    stream: str
    """Identity, and name for people: of the file, and of the channel where channels are split."""
    front: str
    """Name of the process that began to read it."""
    source: str
    """What was opened: a path, `-`, a device."""
    live: bool
    """Whether audio arrives by itself and cannot wait."""
    start_unix_s: float
    """Wall-clock time of sample 0."""
    input: str = ""
    """Name of the input: the streams of its channels share it."""


class Hello(Message, frozen=True, kw_only=True):
    """A front introduces itself; again after each `Introduce`."""

    front: str
    incarnation: str
    """Its process id: differs between two processes that bear the same name."""
    streams: tuple[StreamInfo, ...]
    first_sequences: tuple[int, ...]
    """For each stream, the lowest sequence number it may still send."""


class Known(Message, frozen=True, kw_only=True):
    """What a service knew of a stream before its first unacknowledged segment, for a new hub."""

    stream: str
    service: str
    state: bytes
    """As it came with `Credit`; only the service's model can read it."""


class Segment(Message, frozen=True, kw_only=True):
    """A stretch of speech of at most 10 s, or its beginning while somebody still speaks."""

    stream: str
    sequence: int
    """A partial has the number that the segment will have."""
    part: int = 0
    """0: the whole segment; a partial counts from 1, and a higher one replaces it."""
    start: int
    end: int
    """A partial may end later than its segment: the length limit cuts at a pause that lies back."""
    samples: Payload
    """[end - start] int16 or float32."""
    cut: Literal["", "pause", "limit", "end"]
    """Why it ends: silence, the length limit, or the end of the stream; empty for a partial."""
    captured_unix_s: float
    """When its last speech sample was spoken: by the stream's clock if live, else when read."""
    capture_ms: float
    """How long that sample took from there to the front."""
    sent_unix_s: float

    @property
    def final(self) -> bool:
        """Whether it is the whole segment."""
        return not self.part


class Gap(Message, frozen=True, kw_only=True):
    """Samples for which there is no verdict, and why. It takes the place of a segment."""

    stream: str
    sequence: int
    start: int
    end: int
    reason: str


class Activity(Message, frozen=True, kw_only=True):
    """Somebody begins or ceases to speak in a live stream; told when it changes."""

    stream: str
    position: int
    """Where, in samples of the stream."""
    speaking: bool


class End(Message, frozen=True, kw_only=True):
    """The stream is over; `sequence` is the number of segments and gaps before it."""

    stream: str
    sequence: int
    position: int
    """Samples in the whole stream."""
    reason: str = ""
    """Empty for a natural end, else what broke it off."""


class Remark(Message, frozen=True, kw_only=True):
    """Something that people should know about an input that goes on nevertheless."""

    source: str
    text: str


class Beat(Message, frozen=True, kw_only=True):
    """Sent by the I/O thread of a front or node, so that one that hangs is seen as such."""

    name: str
    work_age_s: float | None = None
    """How long the work in progress has taken so far; None when idle."""


# --- hub -> front ---------------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """The hub knows the front and tells where each of its streams stands."""

    hub: str
    """Incarnation of the hub: a new one has forgotten what it did not acknowledge."""
    streams: tuple[Standing, ...]


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far one stream has come, for a front that starts in its middle."""

    stream: str
    next_sequence: int
    """The lowest sequence number that the hub does not have."""
    acknowledged: int
    """The lowest whose verdict is not written down."""
    position: int
    """End of the last segment or gap that the hub has, in samples."""
    start_unix_s: float
    window: int


class Credit(Message, frozen=True, kw_only=True):
    """What the front may forget, and how much more it may send."""

    stream: str
    acknowledged: int
    """Everything with a lower sequence number is decided and written down."""
    window: int
    """How many segments from `acknowledged` on may be on their way at once."""
    states: dict[str, bytes] = {}
    """By service: what it knows of the stream before `acknowledged`, to be kept for a new hub."""


class Introduce(Message, frozen=True, kw_only=True):
    """The hub does not know the sender (it was restarted): introduce yourself."""


# --- node -> hub ----------------------------------------------------------------------------------


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the answers that a node gives: what it needs for it, and who the model is."""

    name: str
    """The voter's name, or `asr`, or `refiner`; replicas share it."""
    kind: Literal["transcript", "vote"]
    needs: tuple[Literal["audio", "transcript"], ...]
    labels: tuple[str, ...] = ()
    """Labels that its votes may carry; empty for a transcriber."""
    model: str
    version: str
    licence: str
    noncommercial: bool = False
    context_turns: int = 0
    """Transcripts of earlier segments of the stream that its tasks are to carry, at most."""
    stateful: bool = False
    """Whether its answer depends on the state that it returned with the segment before."""
    trial_ms: float | None = None
    """How long it took over a second of audio and a sentence at its start, if that was tried."""
    incremental: bool = False
    """Whether a later part of a segment costs it only what is new: it is then given every part."""


class Ready(Message, frozen=True, kw_only=True):
    """A node has loaded its models: what it gives, and how much it can hold."""

    node: str
    incarnation: str
    gives: tuple[Service, ...]
    """What it can answer to one task. What it gives itself, it need not be handed."""
    credits: int
    """How many tasks it can hold at once."""


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recognised word; times in samples of the stream."""

    text: str
    start: int
    end: int
    confidence: float | None = None


class Transcript(Message, frozen=True, kw_only=True):
    """What was said in a segment."""

    stream: str
    sequence: int
    text: str
    """Empty if no words were recognised."""
    translation: str = ""
    """The same in English, if it was translated; empty otherwise. Text voters read this."""
    confidence: float | None = None
    language: str = ""
    language_probability: float | None = None
    """How sure the detection of the language was; None where it was not detected."""
    words: tuple[Word, ...] = ()
    reason: str = ""
    """Why the text is empty, where the transcriber can tell."""
    part: int = 0
    stable: int = 0
    """How many of its first words later parts will not change; all of them when final."""
    model: str
    queue_ms: float
    run_ms: float
    batch_size: int
    state: bytes = b""
    """Of a stateful service, from here on. The hub takes it off: no sink ever sees it."""

    @property
    def final(self) -> bool:
        """Whether it is of the whole segment."""
        return not self.part

    @property
    def english(self) -> str:
        """What text voters read: the translation where there is one."""
        return self.translation or self.text

    @property
    def english_language(self) -> str:
        """Language of `english`, which is not English where nothing was translated."""
        return "en" if self.translation else self.language


class Vote(Message, frozen=True, kw_only=True):
    """One voter's answer for one segment."""

    stream: str
    sequence: int
    voter: str
    label: str
    probabilities: tuple[float, ...] | None = None
    """Over models.labels.LABELS, or None for a voter that gives just a label."""
    part: int = 0
    model: str
    version: str
    queue_ms: float
    run_ms: float
    batch_size: int
    state: bytes = b""
    """As that of a transcript."""


class Failed(Message, frozen=True, kw_only=True):
    """A node has no answer for a segment: it abstains, or something broke."""

    stream: str
    sequence: int
    service: str
    part: int = 0
    reason: str
    retry: bool
    """Whether another try could succeed; False for an abstention."""
    state: bytes = b""
    """Of a stateful service that abstains, from here on."""


# --- hub -> node ----------------------------------------------------------------------------------


class Task(Message, frozen=True, kw_only=True):
    """A segment to work on, or a part of one; carries what the wanted services need.

    Each of them answers with a message of its own. A transcript that the task asks for itself is
    not in it.
    """

    stream: str
    sequence: int
    part: int = 0
    services: tuple[str, ...]
    """Which of the node's services are to answer."""
    start: int
    end: int
    samples: Payload | None = None
    transcript: str | None = None
    """In English: the translation where there is one."""
    language: str = ""
    """Of `transcript`."""
    previous: tuple[str, ...] = ()
    """What was said just before, for the transcriber: in the original, and only without a break."""
    context: tuple[str, ...] = ()
    """Transcripts of earlier segments of the stream, oldest first, as far as they are known."""
    choices: tuple[str, ...] = ()
    """Labels to choose among, the likeliest first; empty for all."""
    states: dict[str, bytes] = {}
    """By service: what it returned with the segment before; none at the beginning of a stream."""

    @property
    def final(self) -> bool:
        """Whether it is the whole segment; else more of it will come."""
        return not self.part


class Cancel(Message, frozen=True, kw_only=True):
    """The answer is no longer wanted; a task not yet begun is dropped."""

    stream: str
    sequence: int
    part: int = 0
    """The part that is not wanted; 0: nothing of the segment is, and what the node has kept of its
    parts can be forgotten."""


class Drain(Message, frozen=True, kw_only=True):
    """Finish what you hold, then exit."""


class Refused(Message, frozen=True, kw_only=True):
    """The hub will not work with this node, front or sink; it must exit with the reason."""

    reason: str


# --- sink -> hub ----------------------------------------------------------------------------------


class Subscribe(Message, frozen=True, kw_only=True):
    """A sink wants notices."""

    sink: str
    confirm: bool
    """Whether it is the recorder, who writes them down and says so: nothing is forgotten before.
    There is one; the latest to subscribe."""


class Seen(Message, frozen=True, kw_only=True):
    """The sink has written every notice up to this number."""

    number: int


class Died(Message, frozen=True, kw_only=True):
    """A sink that also supervises has seen a process die."""

    name: str
    reason: str
    final: bool = False
    """Whether it will not be started again: then the streams of a front end here."""
    services: tuple[str, ...] = ()
    """What nobody gives any more, if this was the last node of them."""


# --- hub -> sink ----------------------------------------------------------------------------------


class StreamStarted(Message, frozen=True, kw_only=True):
    """A stream has begun."""

    info: StreamInfo


class Missing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voter without a vote in a verdict, and why."""

    voter: str
    reason: str


class Verdict(Message, frozen=True, kw_only=True):
    """What the voters decided about a segment."""

    stream: str
    sequence: int
    start: int
    end: int
    start_unix_s: float
    label: str
    """One of models.labels.LABELS, or `unknown` with a `reason`."""
    reason: str = ""
    leading: str = ""
    """What the votes come to: the label, also where it is withheld; empty if nothing was decided.
    Confidence, agreement and margin are of this one."""
    confidence: float | None = None
    """Mean probability that the voters present give to it (models.ensemble.Decision)."""
    agreement: float
    """Share of the votes cast that are for it."""
    margin: float = 0.0
    """Its lead over the runner-up; 0 on a tie."""
    revision: int = 0
    part: int = 0
    """Above 0 on speech that is still going on: such a verdict is provisional, has revision 0 and
    is followed by one of a higher part, or by that on the whole segment."""
    refinement: Vote | None = None
    """What the refiner says, who was asked because it was close; the label if it is that."""
    votes: tuple[Vote, ...]
    missing: tuple[Missing, ...] = ()
    transcript: Transcript | None = None
    captured_unix_s: float
    stages_ms: dict[str, float]
    """By stage: capture, segment, queue, asr, voters, vote; the sink adds emit and total."""

    @property
    def start_s(self) -> float:
        """Where it begins, in seconds of its stream."""
        return to_seconds(self.start)

    @property
    def end_s(self) -> float:
        """Where it ends, in seconds of its stream."""
        return to_seconds(self.end)

    @property
    def text(self) -> str:
        """What was said; empty without words."""
        return self.transcript.text if self.transcript else ""

    @property
    def final(self) -> bool:
        """Whether it is on the whole segment."""
        return not self.part


class StreamEnded(Message, frozen=True, kw_only=True):
    """A stream is over and everything in it is decided."""

    stream: str
    sequence: int
    position: int
    reason: str = ""


class NodeUp(Message, frozen=True, kw_only=True):
    """A node is ready for work; one for each of its services."""

    node: str
    service: str
    gives: Literal["transcript", "vote"]
    model: str
    version: str
    licence: str
    noncommercial: bool


class NodeDown(Message, frozen=True, kw_only=True):
    """A node is gone, silent, stuck or refused."""

    node: str
    incarnation: str
    service: str
    """What it gave, with commas between."""
    reason: str


class FrontDown(Message, frozen=True, kw_only=True):
    """A front is silent; its streams wait for it to come back."""

    front: str
    incarnation: str
    reason: str


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service of a node as the status line shows it."""

    node: str
    service: str
    held: int
    """Tasks it holds."""
    done: int


class Status(Message, frozen=True, kw_only=True):
    """The hub's own beat, with what it counts."""

    hub: str
    waiting: int
    """Tasks that no node has yet."""
    open_segments: int
    nodes: tuple[NodeLoad, ...]
    fronts: tuple[str, ...]
    """Fronts that are not silent."""
    refused: dict[str, int]
    """Messages turned away, by reason."""
    doubles: int
    """Segments, gaps and votes that came twice and were dropped."""


Event = (
    StreamStarted | Verdict | Gap | StreamEnded | NodeUp | NodeDown | FrontDown | Remark | Status
)
"""What a sink writes. Activity is for those that show a run as it goes on."""


class Notice(Message, frozen=True, kw_only=True):
    """Something for people, numbered so that a sink can confirm it."""

    number: int
    """Counts from 1 in one incarnation of the hub; 0 for what needs no confirmation: Status,
    Activity, a provisional Verdict."""
    hub: str
    event: Event | Activity


FromSink = Subscribe | Seen | Died
ToFront = Welcome | Credit | Introduce | Refused
ToNode = Task | Cancel | Drain | Introduce | Refused
ToSink = Notice | Introduce | Refused
ToHub = (
    Hello
    | Known
    | Segment
    | Gap
    | End
    | Remark
    | Activity
    | Beat
    | Ready
    | Transcript
    | Vote
    | Failed
)
