"""All message types that processes exchange.

    front -> hub    Hello, Known, Segment, Gap, End,    hub -> front   Welcome, Credit, Introduce,
                    Remark, Activity, Beat                             Refused
    node  -> hub    Ready, Transcript, Vote, Failed,    hub -> node    Task, Cancel, Drain, Refused,
                    Beat                                               Introduce
    sink  -> hub    Subscribe, Seen, Died               hub -> sink    Notice, Introduce

A `Notice` carries one event: StreamStarted, Verdict, Gap, StreamEnded, NodeUp, NodeDown, FrontDown,
Remark, Status or Activity. Audio is a `Payload`: on the wire a raw frame behind the header, in the
process a view of that frame. Positions are samples at 16 kHz from the first sample of the stream;
wall-clock times are Unix seconds.

During speech, the front sends the segment so far as a partial: a `Segment` with `part` from 1 (the
whole segment has part 0). Answers and verdicts repeat the part. A partial is sent only once, is not
stored, and ends when the whole segment is sent.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import to_seconds

DTYPES: Final = ("int16", "float32")


class Payload:
    """An array that is sent as a raw frame; a process that only passes it on does not decode it.

    Not a dataclass: msgspec would then write the bytes into the header.

    Args:
        dtype: one of DTYPES, little-endian.
        shape: shape of the array.
        buffer: anything with the buffer protocol: bytes, a memoryview, a ZeroMQ frame.

    """

    __slots__ = ("buffer", "dtype", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], buffer: Any) -> None:
        self.dtype = dtype
        self.shape = shape
        self.buffer = buffer

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Payload:
        """Wrap an int16 or float32 array; copies only an array that is not contiguous."""
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
    """Base of all messages: frozen, tagged with the class name, unknown fields refused."""


# --- front -> hub ---------------------------------------------------------------------------------


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One channel of one input."""

    stream: str
    """Unique name: that of the input, and of the channel if channels are split."""
    front: str
    """Name of the first process that read the stream."""
    source: str
    """The opened path, address or device; `-` for standard input."""
    live: bool
    """Whether audio arrives in real time, so that reading cannot wait."""
    start_unix_s: float
    """Wall-clock time of sample 0."""
    input: str = ""
    """Name of the input; all its channels share it."""
    run: str = ""
    """The run of the stream: the same name in another run is another stream."""


class Hello(Message, frozen=True, kw_only=True):
    """A front introduces itself, at its start and after each `Introduce`."""

    front: str
    incarnation: str
    """Process id of the front: tells two processes of the same name apart."""
    run: str
    """The run of the front and of all its streams, the same as in `StreamInfo.run`."""
    streams: tuple[StreamInfo, ...]
    first_sequences: tuple[int, ...]
    """For each stream, the lowest sequence number it may still send."""


class Known(Message, frozen=True, kw_only=True):
    """State of a service before the first unacknowledged segment of a stream, for a new hub."""

    stream: str
    service: str
    state: bytes
    """The state that `Credit` carried; only the model of the service can read it."""


class Segment(Message, frozen=True, kw_only=True):
    """A stretch of speech of at most 10 s, or a partial of it while the speech continues."""

    stream: str
    sequence: int
    """A partial has the number that the segment will have."""
    part: int = 0
    """0: the whole segment; partials count from 1, and a later one replaces an earlier one."""
    start: int
    end: int
    """A partial may end later than its segment: the length limit cuts at an earlier pause."""
    samples: Payload
    """[end - start] int16 or float32."""
    cut: Literal["", "pause", "limit", "end"]
    """Why the segment ends: silence, length limit, or end of the stream; empty for a partial."""
    captured_unix_s: float
    """Time of the last speech sample: by the stream's clock if live, else when it was read."""
    capture_ms: float
    """Delay of that sample until the front received it."""
    sent_unix_s: float

    @property
    def final(self) -> bool:
        """Whether this is the whole segment."""
        return not self.part


class Gap(Message, frozen=True, kw_only=True):
    """A range of samples without a verdict, and the reason. It replaces a segment."""

    stream: str
    sequence: int
    start: int
    end: int
    reason: str


class Activity(Message, frozen=True, kw_only=True):
    """Speech begins or ends in a live stream."""

    stream: str
    position: int
    """Position of the change, in samples of the stream."""
    speaking: bool


class End(Message, frozen=True, kw_only=True):
    """End of a stream."""

    stream: str
    sequence: int
    """Number of segments and gaps in the stream."""
    position: int
    """Length of the stream in samples."""
    reason: str = ""
    """Why the stream broke off; empty for a natural end."""


class Remark(Message, frozen=True, kw_only=True):
    """A warning about an input; the input continues."""

    source: str
    text: str


class Beat(Message, frozen=True, kw_only=True):
    """Heartbeat of a front or node. Its I/O thread sends it, so that a stuck model is noticed."""

    name: str
    work_age_s: float | None = None
    """Age of the work in progress; None when idle."""
    work_cpu_s: float | None = None
    """Processor seconds that the node has used since that work began; None: unknown."""


# --- hub -> front ---------------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """The hub accepts a front, and reports how far each of its streams has come."""

    hub: str
    """Incarnation of the hub: a new hub lacks everything that was not acknowledged."""
    streams: tuple[Standing, ...]


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Progress of one stream, for a front that continues it."""

    stream: str
    next_sequence: int
    """The lowest sequence number that the hub has not received."""
    acknowledged: int
    """The lowest sequence number that the recorder has not confirmed."""
    position: int
    """End of the last segment or gap that the hub has received, in samples."""
    start_unix_s: float
    window: int


class Credit(Message, frozen=True, kw_only=True):
    """Acknowledges segments, and says how many more the front may send."""

    stream: str
    acknowledged: int
    """The recorder has confirmed all lower sequence numbers; the front may delete them."""
    window: int
    """Number of segments, from `acknowledged` on, that the front may send."""
    states: dict[str, bytes] = {}
    """State by service before `acknowledged`; the front keeps it for a new hub."""


class Introduce(Message, frozen=True, kw_only=True):
    """The hub does not know the receiver (the hub was restarted): it must introduce itself."""


# --- node -> hub ----------------------------------------------------------------------------------


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the services of a node: what it needs and which model it runs."""

    name: str
    """`asr`, `refiner` or the name of a voter; replicas share it."""
    kind: Literal["transcript", "vote"]
    needs: tuple[Literal["audio", "transcript"], ...]
    labels: tuple[str, ...] = ()
    """Possible labels of the votes; empty for a transcriber."""
    model: str
    version: str
    licence: str
    noncommercial: bool = False
    context_turns: int = 0
    """Maximum number of earlier transcripts of the stream in a task."""
    stateful: bool = False
    """Whether an answer depends on the state that came with the previous answer."""
    trial_ms: float | None = None
    """Time that a trial (1 s of audio and a sentence) took at the start; None without a trial."""
    incremental: bool = False
    """Whether a later partial costs only its new audio; the service then gets every partial."""


class Ready(Message, frozen=True, kw_only=True):
    """A node has loaded its models."""

    node: str
    incarnation: str
    gives: tuple[Service, ...]
    """The services of the node. They pass a transcript on within the node."""
    credits: int
    """How many tasks the node can hold at once."""


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recognised word; times are samples of the stream."""

    text: str
    start: int
    end: int
    confidence: float | None = None


class Transcript(Message, frozen=True, kw_only=True):
    """The words of a segment."""

    stream: str
    sequence: int
    text: str
    """Empty if no words were recognised."""
    translation: str = ""
    """The text in English, if it was translated; else empty. Text voters read the translation."""
    confidence: float | None = None
    language: str = ""
    language_probability: float | None = None
    """Probability of the detected language; None if the language was not detected."""
    words: tuple[Word, ...] = ()
    reason: str = ""
    """Why the text is empty, if known."""
    part: int = 0
    stable: int = 0
    """How many of the first words will not change any more; all words if final."""
    model: str
    queue_ms: float
    run_ms: float
    batch_size: int
    state: bytes = b""
    """State of a stateful service after this segment. The hub removes it before publishing."""

    @property
    def final(self) -> bool:
        """Whether the transcript covers the whole segment."""
        return not self.part

    @property
    def english(self) -> str:
        """Text for the voters: the translation if there is one, else the original."""
        return self.translation or self.text

    @property
    def english_language(self) -> str:
        """Language of `english`: English only if the text was translated."""
        return "en" if self.translation else self.language


class Vote(Message, frozen=True, kw_only=True):
    """One voter's answer for one segment."""

    stream: str
    sequence: int
    voter: str
    label: str
    probabilities: tuple[float, ...] | None = None
    """In the order of models.labels.LABELS; None for a voter without probabilities."""
    part: int = 0
    model: str
    version: str
    queue_ms: float
    run_ms: float
    batch_size: int
    state: bytes = b""
    """See Transcript.state."""


class Failed(Message, frozen=True, kw_only=True):
    """A service has no answer for a segment: it abstains, or it failed."""

    stream: str
    sequence: int
    service: str
    part: int = 0
    reason: str
    retry: bool
    """Whether another try could succeed; False for an abstention."""
    state: bytes = b""
    """See Transcript.state; a service that abstains may still have one."""


# --- hub -> node ----------------------------------------------------------------------------------


class Task(Message, frozen=True, kw_only=True):
    """A segment or partial to process, with the inputs that the requested services need.

    Each service answers with its own message. A task that requests the transcript contains none.
    """

    stream: str
    sequence: int
    part: int = 0
    services: tuple[str, ...]
    """Services of the node that must answer."""
    start: int
    end: int
    samples: Payload | None = None
    transcript: str | None = None
    """The translation if there is one, else the original text."""
    language: str = ""
    """Language of `transcript`."""
    previous: tuple[str, ...] = ()
    """Original texts of the segments just before, for the transcriber; ends at a missing one."""
    context: tuple[str, ...] = ()
    """Known transcripts of earlier segments of the stream, oldest first."""
    choices: tuple[str, ...] = ()
    """Labels to choose from, likeliest first; empty: all labels."""
    states: dict[str, bytes] = {}
    """By service: the state after the previous segment; none at the beginning of a stream."""

    @property
    def final(self) -> bool:
        """Whether this is the whole segment."""
        return not self.part


class Cancel(Message, frozen=True, kw_only=True):
    """An answer is no longer needed: the node drops the task if it has not begun."""

    stream: str
    sequence: int
    part: int = 0
    """The cancelled partial; 0: the whole segment, and all data that the node has of partials."""


class Drain(Message, frozen=True, kw_only=True):
    """The node must finish its tasks, then exit."""


class Refused(Message, frozen=True, kw_only=True):
    """The hub refuses this node, front or sink, which must exit with the reason."""

    reason: str
    restart: bool = False
    """Whether a new process may succeed."""


# --- sink -> hub ----------------------------------------------------------------------------------


class Subscribe(Message, frozen=True, kw_only=True):
    """A sink asks for notices."""

    sink: str
    confirm: bool
    """Whether this sink is the recorder of its run: the hub keeps each event of the run until the
    recorder confirms it. A run has one recorder, the latest that subscribed."""
    run: str = ""
    """The run whose streams this sink gets; a reader without a run gets all that it may see."""


class Seen(Message, frozen=True, kw_only=True):
    """The recorder has written all notices up to this number."""

    number: int


class Died(Message, frozen=True, kw_only=True):
    """The supervisor reports that a node or front has died. Sent by the recorder."""

    name: str
    reason: str
    final: bool = False
    """Whether the process will not be restarted; the streams of a front then end."""
    services: tuple[str, ...] = ()
    """Services that have lost their last node."""
    reached: dict[str, int] = {}
    """How far the front had read each stream, or the stream's whole length if that is known. What
    the hub does not have of it becomes a gap."""


# --- hub -> sink ----------------------------------------------------------------------------------


class StreamStarted(Message, frozen=True, kw_only=True):
    """A stream has begun."""

    info: StreamInfo


class Missing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voter whose vote is missing in a verdict, and the reason."""

    voter: str
    reason: str


class Verdict(Message, frozen=True, kw_only=True):
    """The label of a segment, with the votes behind it."""

    stream: str
    sequence: int
    start: int
    end: int
    start_unix_s: float
    label: str
    """One of models.labels.LABELS, or `unknown` with a `reason`."""
    reason: str = ""
    leading: str = ""
    """The winning label, even if `label` is `unknown`; empty if the vote decided nothing.
    Confidence, agreement and margin belong to this label."""
    confidence: float | None = None
    """Mean probability of the leading label (see models.vote.ensemble.Decision)."""
    agreement: float
    """Share of the votes for the leading label."""
    margin: float = 0.0
    """Lead over the second label; 0 on a tie."""
    revision: int = 0
    part: int = 0
    """0: final; otherwise the number of the partial. Such a verdict is provisional, has revision 0,
    and is replaced by that of a later partial or of the whole segment."""
    refinement: Vote | None = None
    """Vote of the refiner, if the decision was close; it decides between the leading labels."""
    votes: tuple[Vote, ...]
    missing: tuple[Missing, ...] = ()
    transcript: Transcript | None = None
    captured_unix_s: float
    stages_ms: dict[str, float]
    """Durations of capture, segment, queue, asr, voters and vote; sinks add emit and total."""

    @property
    def start_s(self) -> float:
        """Start of the segment, in seconds of the stream."""
        return to_seconds(self.start)

    @property
    def end_s(self) -> float:
        """End of the segment, in seconds of the stream."""
        return to_seconds(self.end)

    @property
    def text(self) -> str:
        """Text of the transcript; empty without words."""
        return self.transcript.text if self.transcript else ""

    @property
    def final(self) -> bool:
        """Whether the verdict covers the whole segment."""
        return not self.part


class StreamEnded(Message, frozen=True, kw_only=True):
    """A stream has ended and all its segments are decided."""

    stream: str
    sequence: int
    position: int
    reason: str = ""


class NodeUp(Message, frozen=True, kw_only=True):
    """A service of a node is ready; one event for each service."""

    node: str
    service: str
    gives: Literal["transcript", "vote"]
    model: str
    version: str
    licence: str
    noncommercial: bool


class NodeDown(Message, frozen=True, kw_only=True):
    """A node has died, is silent or stuck, or was refused."""

    node: str
    incarnation: str
    service: str
    """Services of the node, separated by commas."""
    reason: str


class FrontDown(Message, frozen=True, kw_only=True):
    """A front is silent; its streams wait until it reports again."""

    front: str
    incarnation: str
    reason: str


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Load of one service of a node, for the status line."""

    node: str
    service: str
    held: int
    """Tasks that the node holds for this service."""
    done: int


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that is silent or slow; its supervisor knows whether it only starves."""

    name: str
    incarnation: str = ""
    reason: str
    limit_s: float
    """Processor seconds that it may use before it counts as stuck."""
    used_s: float = 0.0
    """What it has used of them."""


class Status(Message, frozen=True, kw_only=True):
    """Heartbeat of the hub, with its counters."""

    hub: str
    waiting: int
    """Tasks that wait for a node."""
    open_segments: int
    nodes: tuple[NodeLoad, ...]
    fronts: tuple[str, ...]
    """Fronts that are not silent."""
    refused: dict[str, int]
    """Number of refused messages by reason."""
    doubles: int
    """Number of segments, gaps and answers that were dropped as duplicates or as too late."""
    suspects: tuple[Suspect, ...] = ()


Event = (
    StreamStarted | Verdict | Gap | StreamEnded | NodeUp | NodeDown | FrontDown | Remark | Status
)
"""Events that sinks may write; Activity is only for live displays."""


class Notice(Message, frozen=True, kw_only=True):
    """An event for the sinks, numbered so that the recorder can confirm it."""

    number: int
    """Counts from 1 in each incarnation of the hub; 0 for events without confirmation: Status,
    Activity, provisional verdicts, and the state sent to a new sink."""
    hub: str
    run: str = ""
    """The run of the stream or input; empty for the events of all runs: nodes and status."""
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
