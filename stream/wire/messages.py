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

from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from abhinaya.models.labels import Attributes
from abhinaya.stream.clock import to_seconds

DTYPES: Final = ("int16", "float32")

# Ranges of the fields. The decoder refuses all other values, also NaN, so that no number can make a
# receiver fail that computes with it, and no text can fill its memory.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
StreamId = Annotated[str, msgspec.Meta(min_length=1, max_length=1024 + 65)]
"""Run and name of a stream: nodes get it from the hub, and only repeat it."""
Text = Annotated[str, msgspec.Meta(max_length=32_768)]
Short = Annotated[str, msgspec.Meta(max_length=512)]
"""What each vote of a verdict repeats."""
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
"""Also a sequence number."""
Position = Annotated[int, msgspec.Meta(ge=0, le=2**46)]
"""Samples of a stream: up to 140 years."""
UnixTime = Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]
"""Seconds, up to the year 5138."""
Duration = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.001)]
"""In [0, 1], with room for the rounding of float32."""
State = Annotated[bytes, msgspec.Meta(max_length=256 * 1024)]
"""`hub/validation.py` has a lower limit, with a reason that names the service."""
States = Annotated[dict[Name, State], msgspec.Meta(max_length=16)]

NOT_JUDGED: Final = "not judged (compliance)"
"""Reason of a verdict on a stream that may not be judged (settings/compliance.py)."""


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

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return memoryview(self.buffer).nbytes

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

    stream: Name
    """Unique name: that of the input, and of the channel if channels are split."""
    front: Name
    """Name of the first process that read the stream."""
    source: Text
    """The opened path, address or device; `-` for standard input."""
    live: bool
    """Whether audio arrives in real time, so that reading cannot wait."""
    start_unix_s: UnixTime
    """Wall-clock time of sample 0."""
    input: Text = ""
    """Name of the input; all its channels share it."""
    run: Text = ""
    """The run of the stream: the same name in another run is another stream."""
    judged: bool = True
    """Whether voters may be asked; if not, each verdict is `unknown` with the reason NOT_JUDGED."""
    heard: bool = True
    """Whether it is transcribed at least."""
    notice: Text = ""
    """What the persons concerned are told; empty without compliance mode."""
    consent: Text = ""
    """Their consent, as the source gives it."""


class Hello(Message, frozen=True, kw_only=True):
    """A front introduces itself, at its start and after each `Introduce`."""

    front: Name
    incarnation: Name
    """Process id of the front: tells two processes of the same name apart."""
    run: Text
    """The run of the front and of all its streams, the same as in `StreamInfo.run`."""
    streams: tuple[StreamInfo, ...]
    first_sequences: tuple[Count, ...]
    """For each stream, the lowest sequence number it may still send."""
    adds: bool = False
    """Whether the front keeps the streams that it has introduced before."""


class Known(Message, frozen=True, kw_only=True):
    """State of a service before the first unacknowledged segment of a stream, for a new hub."""

    stream: Name
    service: Name
    state: State
    """The state that `Credit` carried; only the model of the service can read it."""


class Segment(Message, frozen=True, kw_only=True):
    """A stretch of speech of at most 10 s, or a partial of it while the speech continues."""

    stream: Name
    sequence: Count
    """A partial has the number that the segment will have."""
    part: Count = 0
    """0: the whole segment; partials count from 1, and a later one replaces an earlier one."""
    start: Position
    end: Position
    """A partial may end later than its segment: the length limit cuts at an earlier pause."""
    samples: Payload
    """[end - start] int16 or float32."""
    cut: Literal["", "pause", "limit", "end"]
    """Why the segment ends: silence, length limit, or end of the stream; empty for a partial."""
    captured_unix_s: UnixTime
    """Time of the last speech sample: by the stream's clock if live, else when it was read."""
    capture_ms: Duration
    """Delay of that sample until the front received it."""
    sent_unix_s: UnixTime
    held_ms: Duration = 0.0
    """How long it waited for the hub; the deadline does not count that."""

    @property
    def final(self) -> bool:
        """Whether this is the whole segment."""
        return not self.part


class Gap(Message, frozen=True, kw_only=True):
    """A range of samples without a verdict, and the reason. It replaces a segment."""

    stream: Name
    sequence: Count
    start: Position
    end: Position
    reason: Text


class Activity(Message, frozen=True, kw_only=True):
    """Speech begins or ends in a live stream."""

    stream: Name
    position: Position
    """Position of the change, in samples of the stream."""
    speaking: bool


class End(Message, frozen=True, kw_only=True):
    """End of a stream."""

    stream: Name
    sequence: Count
    """Number of segments and gaps in the stream."""
    position: Position
    """Length of the stream in samples."""
    reason: Text = ""
    """Why the stream broke off; empty for a natural end."""
    sound: Text = ""
    """Why no speech was found, or why some may be missed, for a person; empty if it is good."""


class Remark(Message, frozen=True, kw_only=True):
    """A warning about an input; the input continues."""

    source: Text
    text: Text


class Beat(Message, frozen=True, kw_only=True):
    """Heartbeat of a front or node. Its I/O thread sends it, so that a stuck model is noticed."""

    name: Name
    work_age_s: Duration | None = None
    """Age of the work in progress; None when idle."""
    work_cpu_s: Duration | None = None
    """Processor seconds that the node has used since that work began; None: unknown."""


# --- hub -> front ---------------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """The hub accepts a front, and reports how far each of its streams has come."""

    hub: Name
    """Incarnation of the hub: a new hub lacks everything that was not acknowledged."""
    streams: tuple[Standing, ...]


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Progress of one stream, for a front that continues it."""

    stream: Name
    next_sequence: Count
    """The lowest sequence number that the hub has not received."""
    acknowledged: Count
    """The lowest sequence number that the recorder has not confirmed."""
    position: Position
    """End of the last segment or gap that the hub has received, in samples."""
    start_unix_s: UnixTime
    window: Count
    ended: bool = False
    """Whether the end of the stream has been received: nothing may follow it."""


class Credit(Message, frozen=True, kw_only=True):
    """Acknowledges segments, and says how many more the front may send."""

    stream: Name
    acknowledged: Count
    """The recorder has confirmed all lower sequence numbers; the front may delete them."""
    window: Count
    """Number of segments, from `acknowledged` on, that the front may send."""
    states: States = {}
    """State by service before `acknowledged`; the front keeps it for a new hub."""


class Introduce(Message, frozen=True, kw_only=True):
    """The hub does not know the receiver (the hub was restarted): it must introduce itself."""


# --- node -> hub ----------------------------------------------------------------------------------


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the services of a node: what it needs and which model it runs."""

    name: Name
    """`asr`, `refiner` or the name of a voter; replicas share it."""
    kind: Literal["transcript", "vote"]
    needs: tuple[Literal["audio", "transcript"], ...]
    labels: tuple[Name, ...] = ()
    """Possible labels of the votes; empty for a transcriber, and for a voter of attributes only."""
    attributes: bool = False
    """Whether votes may have attributes."""
    model: Short
    version: Short
    licence: Short
    noncommercial: bool = False
    context_turns: Count = 0
    """Maximum number of earlier transcripts of the stream in a task."""
    stateful: bool = False
    """Whether an answer depends on the state that came with the previous answer."""
    trial_ms: Duration | None = None
    """Time that a trial (1 s of audio and a sentence) took at the start; None without a trial."""
    trial: tuple[Share, ...] = ()
    """Probabilities that the model must give in it; empty if unknown."""
    incremental: bool = False
    """Whether a later partial costs only its new audio; the service then gets every partial."""


class Ready(Message, frozen=True, kw_only=True):
    """A node has loaded its models."""

    node: Name
    incarnation: Name
    gives: tuple[Service, ...]
    """The services of the node. They pass a transcript on within the node."""
    credits: Count
    """How many tasks the node can hold at once; 0: it wants to stop, and gets a `Drain`."""


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recognised word; times are samples of the stream."""

    text: Text
    start: Position
    end: Position
    confidence: Share | None = None


class Transcript(Message, frozen=True, kw_only=True):
    """The words of a segment."""

    stream: StreamId
    sequence: Count
    text: Text
    """Empty if no words were recognised."""
    translation: Text = ""
    """The text in English, if it was translated; else empty. Text voters read the translation."""
    confidence: Share | None = None
    language: Short = ""
    language_probability: Share | None = None
    """Probability of the detected language; None if the language was not detected."""
    words: tuple[Word, ...] = ()
    reason: Short = ""
    """Why the text is empty, if known."""
    part: Count = 0
    stable: Count = 0
    """How many of the first words will not change any more; all words if final."""
    model: Short
    queue_ms: Duration
    run_ms: Duration
    batch_size: Count
    state: State = b""
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

    stream: StreamId
    sequence: Count
    voter: Name
    label: Short
    """Empty if the vote has only attributes."""
    probabilities: tuple[float, ...] | None = None
    """In the order of models.labels.LABELS; None for a voter without probabilities."""
    attributes: Attributes | None = None
    """Arousal, valence, dominance from 1 to 7; None for a voter that does not rate them."""
    part: Count = 0
    model: Short
    version: Short
    queue_ms: Duration
    run_ms: Duration
    batch_size: Count
    state: State = b""
    """See Transcript.state."""


class Failed(Message, frozen=True, kw_only=True):
    """A service has no answer for a segment: it abstains, or it failed."""

    stream: StreamId
    sequence: Count
    service: Name
    part: Count = 0
    reason: Text
    retry: bool
    """Whether another try could succeed; False for an abstention."""
    state: State = b""
    """See Transcript.state; a service that abstains may still have one."""


# --- hub -> node ----------------------------------------------------------------------------------


class Task(Message, frozen=True, kw_only=True):
    """A segment or partial to process, with the inputs that the requested services need.

    Each service answers with its own message. A task that requests the transcript contains none.
    """

    stream: StreamId
    sequence: Count
    part: Count = 0
    services: tuple[Name, ...]
    """Services of the node that must answer."""
    start: Position
    end: Position
    samples: Payload | None = None
    transcript: Text | None = None
    """The translation if there is one, else the original text."""
    language: Text = ""
    """Language of `transcript`."""
    previous: tuple[Text, ...] = ()
    """Original texts of the segments just before, for the transcriber; ends at a missing one."""
    context: tuple[Text, ...] = ()
    """Known transcripts of earlier segments of the stream, oldest first."""
    choices: tuple[Name, ...] = ()
    """Labels to choose from, likeliest first; empty: all labels."""
    states: States = {}
    """By service: the state after the previous segment; none at the beginning of a stream."""

    @property
    def final(self) -> bool:
        """Whether this is the whole segment."""
        return not self.part


class Cancel(Message, frozen=True, kw_only=True):
    """An answer is no longer needed: the node drops the task if it has not begun."""

    stream: StreamId
    sequence: Count
    part: Count = 0
    """The cancelled partial; 0: the whole segment, and all data that the node has of partials."""


class Drain(Message, frozen=True, kw_only=True):
    """The node must finish its tasks, then exit."""


class Refused(Message, frozen=True, kw_only=True):
    """The hub refuses this node, front or sink, which must exit with the reason."""

    reason: Text
    remedy: Text = ""
    rights: bool = False
    """Whether the key of the receiver lacks the right: with another key it would be accepted."""
    restart: bool = False
    """Whether a new process may succeed."""
    streams: tuple[Name, ...] = ()
    """The new streams that are refused; the front and its others go on. Empty: the receiver is."""


# --- sink -> hub ----------------------------------------------------------------------------------


class Subscribe(Message, frozen=True, kw_only=True):
    """A sink asks for notices."""

    sink: Name
    confirm: bool
    """Whether this sink is the recorder of its run: the hub keeps each event of the run until the
    recorder confirms it. A run has one recorder, the latest that subscribed."""
    run: Text = ""
    """The run whose streams this sink gets; a reader without a run gets all that it may see."""


class Seen(Message, frozen=True, kw_only=True):
    """The recorder has written all notices up to this number."""

    hub: Name
    """See Notice.hub."""
    number: Count


class Died(Message, frozen=True, kw_only=True):
    """The supervisor reports that a node or front has died. Sent by the recorder."""

    name: Name
    reason: Text
    final: bool = False
    """Whether the process will not be restarted; the streams of a front then end."""
    services: tuple[Name, ...] = ()
    """Services that have lost their last node."""
    reached: Annotated[dict[Name, Position], msgspec.Meta(max_length=10_000)] = {}
    """How far the front had read each stream, or the stream's whole length if that is known. What
    the hub does not have of it becomes a gap."""


# --- hub -> sink ----------------------------------------------------------------------------------


class StreamStarted(Message, frozen=True, kw_only=True):
    """A stream has begun."""

    info: StreamInfo


class Missing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voter whose vote is missing in a verdict, and the reason."""

    voter: Name
    reason: Text


class Verdict(Message, frozen=True, kw_only=True):
    """The label of a segment, with the votes behind it."""

    stream: Name
    sequence: Count
    start: Position
    end: Position
    start_unix_s: UnixTime
    label: Name
    """One of models.labels.LABELS, or `unknown` with a `reason`."""
    reason: Text = ""
    leading: Text = ""
    """The winning label, even if `label` is `unknown`; empty if the vote decided nothing.
    Confidence, agreement and margin belong to this label."""
    confidence: Share | None = None
    """Mean probability of the leading label (see models.vote.ensemble.Decision)."""
    agreement: Share
    """Share of the votes for the leading label."""
    margin: Share = 0.0
    """Lead over the second label; 0 on a tie."""
    attributes: Attributes | None = None
    """Mean over the votes that have attributes; None if none has."""
    revision: Count = 0
    part: Count = 0
    """0: final; otherwise the number of the partial. Such a verdict is provisional, has revision 0,
    and is replaced by that of a later partial or of the whole segment."""
    refinement: Vote | None = None
    """Vote of the refiner, if the decision was close; it decides between the leading labels."""
    votes: tuple[Vote, ...]
    missing: tuple[Missing, ...] = ()
    transcript: Transcript | None = None
    captured_unix_s: UnixTime
    stages_ms: dict[Name, Duration]
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
    def judged(self) -> bool:
        """Whether the stream may be judged."""
        return self.reason != NOT_JUDGED

    @property
    def final(self) -> bool:
        """Whether the verdict covers the whole segment."""
        return not self.part


class StreamEnded(Message, frozen=True, kw_only=True):
    """A stream has ended and all its segments are decided."""

    stream: Name
    sequence: Count
    position: Position
    reason: Text = ""
    sound: Text = ""
    """See End."""


class NodeUp(Message, frozen=True, kw_only=True):
    """A service of a node is ready; one event for each service."""

    node: Name
    service: Name
    gives: Literal["transcript", "vote"]
    model: Text
    version: Text
    licence: Text
    noncommercial: bool


class NodeDown(Message, frozen=True, kw_only=True):
    """A node has died, is silent or stuck, or was refused."""

    node: Name
    incarnation: Name
    service: Text
    """Services of the node, separated by commas."""
    reason: Text


class FrontDown(Message, frozen=True, kw_only=True):
    """A front is silent; its streams wait until it reports again."""

    front: Name
    incarnation: Name
    reason: Text


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Load of one service of a node, for the status line."""

    node: Name
    service: Name
    held: Count
    """Tasks that the node holds for this service."""
    done: Count
    checked_s: Duration | None = None
    """Seconds since it was last right about the test recording; None: it is not asked."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that is silent or slow; its supervisor knows whether it only starves."""

    name: Name
    incarnation: Text = ""
    reason: Text
    limit_s: Duration
    """Processor seconds that it may use before it counts as stuck."""
    used_s: Duration = 0.0
    """What it has used of them."""


class Status(Message, frozen=True, kw_only=True):
    """Heartbeat of the hub, with its counters."""

    hub: Name
    waiting: Count
    """Tasks that wait for a node."""
    open_segments: Count
    nodes: tuple[NodeLoad, ...]
    fronts: tuple[Name, ...]
    """Fronts that are not silent."""
    refused: dict[Text, Count]
    """Number of refused messages by reason."""
    doubles: Count
    """Number of segments, gaps and answers that were dropped as duplicates or as too late."""
    suspects: tuple[Suspect, ...] = ()
    oldest_s: dict[Name, Duration] = {}
    """By service: age of the oldest segment that waits for it."""
    left_out: dict[Name, Count] = {}
    """By service: live streams that do without it, because the nodes do not keep up."""
    queued: dict[Name, Count] = {}
    """By service: segments that wait for a node; `waiting` is their sum."""


Event = (
    StreamStarted | Verdict | Gap | StreamEnded | NodeUp | NodeDown | FrontDown | Remark | Status
)
"""Events that sinks may write; Activity is only for live displays."""


class Notice(Message, frozen=True, kw_only=True):
    """An event for the sinks, numbered so that the recorder can confirm it."""

    number: Count
    """Counts from 1 without a hole; 0 for events without confirmation: Status, Activity,
    provisional verdicts, and the state sent to a new sink."""
    hub: Name
    """Incarnation of the hub and of the run at it: with another one, numbers begin again."""
    run: Text = ""
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
