"""Reads corpora with their own tables: IEMOCAP, MELD, CREMA-D's votes, GoEmotions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from abhinaya.train.data.clips import OTHER, Clip
from abhinaya.train.data.read_plain import AUDIO, LETTERS, known_label, read_acted
from abhinaya.train.data.tables import rows_of
from abhinaya.train.errors import DataError

# --- IEMOCAP --------------------------------------------------------------------------------------

IEMOCAP: Final = {
    "neutral": "neutral", "happiness": "happy", "excited": "happy", "sadness": "sad",
    "anger": "angry", "surprise": "surprise", "fear": "fear", "disgust": "disgust",
}  # fmt: skip
"""All other classes, such as frustration, are `other`."""
_TURN: Final = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
_RATER: Final = re.compile(r"^C-E\w*:\t([^(]*?)\t?\(")
_SPOKEN: Final = re.compile(r"^(Ses\w+) \[[\d.]+-[\d.]+\]: (.*)$")


def read_iemocap(folder: Path) -> list[Clip]:
    """Read IEMOCAP (Busso et al., 2008): votes, attributes, transcripts.

    A rater who chose several classes has one vote, shared among them. Self-reports of the actors
    are not votes.

    Raises DataError: no evaluation files are there.
    """
    clips = []
    for path in sorted(folder.glob("Session*/dialog/EmoEvaluation/*.txt")):
        session = path.parents[2]
        texts = _transcripts(session / "dialog" / "transcriptions" / path.name)
        for block in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            if clip := _turn(folder, session, block.splitlines(), texts):
                clips.append(clip)
    if not clips:
        raise DataError(
            f"{folder}: has no Session*/dialog/EmoEvaluation/*.txt; give the folder of "
            "IEMOCAP_full_release"
        )
    return clips


def _turn(folder: Path, session: Path, lines: list[str], texts: dict[str, str]) -> Clip | None:
    head = next((m for line in lines if (m := _TURN.match(line))), None)
    if head is None:
        return None
    name = head[1]
    votes: dict[str, float] = {}
    for rater in filter(None, map(_RATER.match, lines)):
        ticked = [t.strip().lower() for t in rater[1].split(";") if t.strip()]
        for choice in ticked:
            label = IEMOCAP.get(choice, OTHER)
            votes[label] = votes.get(label, 0.0) + 1 / len(ticked)
    dialogue, turn = name.rsplit("_", 1)
    wav = session / "sentences" / "wav" / dialogue / f"{name}.wav"
    valence, arousal, dominance = (min(1.0, max(0.0, (float(head[i]) - 1) / 4)) for i in (3, 4, 5))
    return Clip(
        id=name,
        corpus="iemocap",
        speaker=f"iemocap_{name[3:5]}{turn[0]}",
        votes=votes,
        path=wav.relative_to(folder).as_posix(),
        attributes={"arousal": arousal, "valence": valence, "dominance": dominance},
        transcript=texts.get(name, ""),
        transcript_source="gold" if name in texts else "",
        gender=turn[0].lower(),
        language="en",
    )


def _transcripts(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {m[1]: m[2].strip() for m in map(_SPOKEN.match, lines) if m}


# --- MELD -----------------------------------------------------------------------------------------


def read_meld(folder: Path) -> list[Clip]:
    """Read MELD (Poria et al., 2019): text, with audio if diaX_uttY is found; its own splits.

    Its speakers occur in every split, so it cannot measure unseen speakers.

    Raises DataError: no table, or a label that is unknown.
    """
    media: dict[tuple[str, str], Path] = {}
    for file in sorted(p for p in folder.rglob("dia*_utt*") if p.suffix.lower() in AUDIO):
        part = next((s for s in ("train", "dev", "test") if s in file.parent.as_posix()), "")
        media.setdefault((part, file.stem), file)
    clips = []
    for table in sorted(folder.rglob("*_sent_emo.csv")):
        split = table.name.split("_")[0]
        for row in rows_of(table, "fetch it again"):
            name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            audio = media.get((split, name)) or media.get(("", name))
            clips.append(
                Clip(
                    id=f"{split}_{name}",
                    corpus="meld",
                    speaker=f"meld_{row['Speaker']}",
                    votes={known_label(table, row["Emotion"]): 1.0},
                    path=audio.relative_to(folder).as_posix() if audio else "",
                    split=split,
                    transcript=row["Utterance"],
                    transcript_source="gold",
                    kind="speech" if audio else "text",
                    language="en",
                )
            )
    if not clips:
        raise DataError(f"{folder}: has no *_sent_emo.csv; give the folder of MELD's tables")
    return clips


# --- CREMA-D --------------------------------------------------------------------------------------

CREMAD_VOTES: Final = {letter: LETTERS[letter] for letter in "ADFHNS"}


def read_cremad(folder: Path) -> list[Clip]:
    """Read CREMA-D (Cao et al., 2014): votes on the audio alone, else one for the instruction.

    In processedResults/tabulatedVotes.csv, rows 100000 to 199999 are votes on the audio alone.
    """
    table = folder / "processedResults" / "tabulatedVotes.csv"
    votes: dict[str, dict[str, float]] = {}
    for row in rows_of(table, "fetch it again") if table.is_file() else ():
        if row.get("", "").startswith("1") and len(row[""]) == 6:
            counts = {label: float(row[c] or 0) for c, label in CREMAD_VOTES.items()}
            votes[row["fileName"]] = {k: v for k, v in counts.items() if v}
    clips = read_acted(folder, "cremad")
    return [replace(clip, votes=votes.get(clip.id) or clip.votes) for clip in clips]


# --- GoEmotions -----------------------------------------------------------------------------------


GOEMOTIONS: Final = (
    ("original_", "original_labels.txt"),
    ("", "emotions.txt"),
    ("ekman_", "ekman_labels.txt"),
)
"""Prefix of the tables, file of the label names; the first that exists is used: fine labels."""


def read_goemotions(folder: Path) -> list[Clip]:
    """Read GoEmotions (Demszky et al., 2020); several labels of a comment share one vote.

    Fine labels are also votes in `secondary`.

    {ekman_,original_,}{train,dev,test}.tsv have label numbers, and
    {ekman_labels,original_labels,emotions}.txt their names.

    Raises DataError: no such files, or a label name is unknown.
    """
    found = [(p, name) for p, name in GOEMOTIONS if (folder / name).is_file()]
    if not found:
        wanted = ", ".join(name for _, name in GOEMOTIONS)
        raise DataError(f"{folder}: has none of {wanted}; give the folder of GoEmotions")
    prefix, listing = found[0]
    names = (folder / listing).read_text(encoding="utf-8").split()
    labels = [known_label(folder / listing, name) for name in names]
    clips = []
    for split in ("train", "dev", "test"):
        path = folder / f"{prefix}{split}.tsv"
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            text, numbers, comment = line.split("\t")
            chosen = [int(number) for number in numbers.split(",")]
            votes = Counter(labels[number] for number in chosen)
            clips.append(
                Clip(
                    id=comment,
                    corpus="goemotions",
                    votes={label: count / votes.total() for label, count in votes.items()},
                    split=split,
                    secondary={} if prefix == "ekman_" else {names[n]: 1.0 for n in chosen},
                    transcript=text,
                    transcript_source="gold",
                    kind="text",
                    language="en",
                )
            )
    if not clips:
        raise DataError(f"{folder}: has {listing} but no {prefix}train.tsv, dev or test")
    return clips
