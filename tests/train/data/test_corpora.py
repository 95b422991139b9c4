from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from made_msp import make_msp
from places import DATA as SHARED

from abhinaya.models.labels import LABELS
from abhinaya.train.data.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import read_manifest
from abhinaya.train.data.read import CORPORA, read_corpus
from abhinaya.train.errors import DataError


def plant(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def read(corpus: str, folder: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in read_corpus(corpus, folder).clips}


@pytest.mark.parametrize(
    ("corpus", "name", "id", "speaker", "gender", "label"),
    [
        ("ravdess", "Actor_12/03-01-06-01-02-01-12.wav", None, "ravdess_12", "f", "fear"),
        ("ravdess", "Actor_01/03-01-02-01-01-01-01.wav", None, "ravdess_01", "m", "neutral"),
        ("nemo", "samples/SK0_surprised_46.wav", None, "nemo_SK0", "", "surprise"),
        ("tess", "OAF_Pleasant_surprise/OAF_back_ps.wav", None, "tess_OA", "f", "surprise"),
        ("tess", "x/OA_bite_neutral.wav", None, "tess_OA", "f", "neutral"),
        ("tess", "x/YAF_dog_angry.wav", None, "tess_YA", "f", "angry"),
        ("savee", "DC/sa01.wav", "DC_sa01", "savee_DC", "m", "sad"),
        ("savee", "AudioData/KL/a07.wav", "KL_a07", "savee_KL", "m", "angry"),
        ("savee", "ALL/JE_su15.wav", "JE_su15", "savee_JE", "m", "surprise"),
        ("emodb", "wav/03a01Fa.wav", None, "emodb_03", "m", "happy"),
        ("emodb", "wav/16b10Wb.wav", None, "emodb_16", "f", "angry"),
        ("cremad", "AudioWAV/1001_DFA_ANG_XX.wav", None, "cremad_1001", "", "angry"),
        ("emogator", "mp3/000321-06-1.mp3", None, "emogator_000321", "", "contempt"),
    ],
)
def test_a_file_name_tells_what_its_corpus_says(
    corpus: str, name: str, id: str | None, speaker: str, gender: str, label: str, tmp_path: Path
) -> None:
    plant(tmp_path, name, "README.txt", "notes.wav")
    (clip,) = read_corpus(corpus, tmp_path).clips
    assert clip.id == (id or Path(name).stem)
    assert (clip.corpus, clip.speaker, clip.gender) == (corpus, speaker, gender)
    assert clip.votes == {label: 1.0}
    assert (clip.label, clip.path) == (label, name)
    assert clip.scripted is (corpus != "emogator")


def test_what_a_corpus_holds_besides_is_left_out(tmp_path: Path) -> None:
    video, song, speech = (
        f"{m}-{c}-03-01-01-01-05" for m, c in (("01", "01"), ("03", "02"), ("03", "01"))
    )
    plant(tmp_path, f"{video}.mp4", f"{song}.wav", f"{speech}.wav")
    (clip,) = read_corpus("ravdess", tmp_path).clips
    assert clip.id == speech
    assert clip.transcript == "Kids are talking by the door"
    plant(tmp_path / "burst", "000001-01-1.mp3", "000001-24-1.mp3")  # adoration has no counterpart
    assert [c.label for c in read_corpus("emogator", tmp_path / "burst").clips] == ["sad"]


def test_crema_votes_are_those_of_listeners_where_they_are_known(tmp_path: Path) -> None:
    plant(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_SAD_HI.wav")
    table = tmp_path / "processedResults" / "tabulatedVotes.csv"
    table.parent.mkdir()
    table.write_text(
        '"","A","D","F","H","N","S","fileName"\n'
        '"100001",3,1,0,0,6,0,"1001_DFA_ANG_XX"\n'
        '"200001",9,0,0,0,0,0,"1001_DFA_ANG_XX"\n'
    )
    clips = read("cremad", tmp_path)
    assert clips["1001_DFA_ANG_XX"].votes == {"angry": 3.0, "disgust": 1.0, "neutral": 6.0}
    assert clips["1001_DFA_ANG_XX"].label == "neutral"
    assert clips["1002_IEO_SAD_HI"].votes == {"sad": 1.0}


# --- MSP-Podcast ----------------------------------------------------------------------------------

CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,4.0,1.0,7.0,17,Male,Train
MSP-PODCAST_0002_0001.wav,X,2.5,4.0,4.0,Unknown,Female,Development
MSP-PODCAST_0003_0001.wav,U,4.0,4.0,4.0,9,Female,Test1
"""
DETAILED = """FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,W1,Neutral,"Neutral,Concerned",4,1,7
MSP-PODCAST_0001_0008.wav,W2,Neutral,Concerned,4,1,7
MSP-PODCAST_0001_0008.wav,W3,Other-annoyed,Annoyed,4,1,7
MSP-PODCAST_0002_0001.wav,W1,Happy,Happy,2,4,4
MSP-PODCAST_0002_0001.wav,W2,Sad,Sad,3,4,4
"""


def msp(folder: Path, detailed: bool = True) -> Path:
    (folder / "Labels").mkdir()
    (folder / "Labels" / "labels_consensus.csv").write_text(CONSENSUS)
    if detailed:
        (folder / "Labels" / "labels_detailed.csv").write_text(DETAILED)
    (folder / "Transcripts").mkdir()
    (folder / "Transcripts" / "MSP-PODCAST_0001_0008.txt").write_text("so it goes\n")
    return folder


def test_msp_podcast_gives_votes_attributes_and_partitions(tmp_path: Path) -> None:
    clips = read("msp-podcast", msp(tmp_path))
    first, torn, undetailed = clips.values()
    assert first.id == "MSP-PODCAST_0001_0008"
    assert first.votes == {"neutral": 2, "other": 1}
    assert first.secondary == {"Neutral": 1, "Concerned": 2, "Annoyed": 1}
    assert first.attributes == {"arousal": 0.5, "valence": 0.0, "dominance": 1.0}
    assert (first.speaker, first.gender, first.split) == ("msp-podcast_17", "m", "train")
    assert (first.transcript, first.transcript_source) == ("so it goes", "gold")
    assert first.path == "Audios/MSP-PODCAST_0001_0008.wav"
    assert torn.consensus is None  # a tie, as the corpus says with X
    assert (torn.speaker, torn.split) == ("", "dev")
    assert (undetailed.votes, undetailed.split) == ({"surprise": 1.0}, "test1")


def test_json_labels_say_the_same_as_csv(tmp_path: Path) -> None:
    for form in ("csv", "json"):
        (tmp_path / form).mkdir()
        msp(tmp_path / form)
    labels = tmp_path / "json" / "Labels"
    header, *lines = CONSENSUS.splitlines()
    columns = header.split(",")[1:]
    consensus = {
        line.split(",")[0]: dict(zip(columns, line.split(",")[1:], strict=True)) for line in lines
    }
    (labels / "labels_consensus.csv").unlink()
    (labels / "labels_consensus.json").write_text(json.dumps(consensus))
    detailed: dict[str, dict[str, dict[str, str]]] = {}
    for line in DETAILED.splitlines()[1:]:
        name, worker, major, rest = line.split(",", 3)
        second = rest.rsplit(",", 3)[0].strip('"')
        detailed.setdefault(name, {})[worker] = {"EmoClass_Major": major, "EmoClass_Second": second}
    (labels / "labels_detailed.csv").unlink()
    (labels / "labels_detailed.json").write_text(json.dumps(detailed))
    assert read("msp-podcast", tmp_path / "json") == read("msp-podcast", tmp_path / "csv")


def test_what_json_hides_is_empty(tmp_path: Path) -> None:
    """Of a test set whose labels are withheld."""
    (tmp_path / "Labels").mkdir()
    hidden = '{"a.wav": {"EmoClass": null, "EmoAct": NaN, "SpkrID": null, "Split_Set": "Test3"}}'
    (tmp_path / "Labels" / "labels_consensus.json").write_text(hidden)
    (clip,) = read("msp-podcast", tmp_path).values()
    assert (clip.votes, clip.attributes, clip.speaker, clip.split) == ({}, {}, "", "test3")


def test_the_hidden_test_has_audio_but_no_row_in_the_labels(tmp_path: Path) -> None:
    """Named test3 as in the challenge of 2025, or listed in the partitions of a release."""
    folder = make_msp(tmp_path, clips_of_a_class={"Train": 1, "Development": 2}, hidden=2, silent=1)
    (folder / "Partitions.txt").write_text("Train; MSP-PODCAST_0001_0001.wav\nTest3; odd.wav\n")
    clips = read("msp-podcast", folder)
    hidden = [clip for clip in clips.values() if clip.split == "test3"]
    assert [c.id for c in hidden] == ["MSP-PODCAST_test3_0001", "MSP-PODCAST_test3_0002", "odd"]
    assert {(bool(c.votes), bool(c.attributes), c.transcript_source) for c in hidden[:2]} == {
        (False, False, "gold")
    }
    assert all((folder / c.path).is_file() for c in clips.values() if c.id != "odd")
    counts = Counter((c.split, c.consensus) for c in clips.values())
    assert (counts["dev", "fear"], counts["train", "fear"]) == (2, 1)
    assert counts["dev", None] == counts["dev", "other"] == 1
    assert sum(not c.transcript for c in clips.values() if c.split == "train") == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0008.wav,N", "0008.wav,Q", "0001_0008.wav has the unknown label 'Q'; known: A, C"),
        ("4.0,1.0,7.0", "4.0,much,7.0", "not as msp-podcast was published.*'much'"),
        ("4.0,1.0,7.0", "4.0,1.0,8.0", "0001_0008: attribute dominance = 1.1.*scaled to 0 to 1"),
        ("Train", "Practice", "unknown partition 'Practice'; known: train"),
    ],
)
def test_a_broken_label_file_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = msp(tmp_path) / "Labels" / "labels_consensus.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_corpus("msp-podcast", tmp_path)


# --- dialogues and text ---------------------------------------------------------------------------


def test_iemocap_gives_the_votes_of_its_raters(tmp_path: Path) -> None:
    dialog = tmp_path / "Session1" / "dialog"
    for folder in ("EmoEvaluation", "transcriptions"):
        (dialog / folder).mkdir(parents=True)
    (dialog / "EmoEvaluation" / "Ses01F_impro01.txt").write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.0000, 3.0000, 5.0000]\n"
        "C-E2:\tNeutral;\t()\nC-E3:\tAnger; Frustration;\t()\nC-E4:\tNeutral;\t()\n"
        "C-F1:\tSadness;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
    )
    (dialog / "transcriptions" / "Ses01F_impro01.txt").write_text(
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
    )
    (clip,) = read_corpus("iemocap", tmp_path).clips
    assert clip.votes == {"neutral": 2.0, "angry": 0.5, "other": 0.5}
    assert clip.attributes == {"valence": 0.25, "arousal": 0.5, "dominance": 1.0}
    assert (clip.speaker, clip.gender, clip.transcript) == ("iemocap_01F", "f", "Excuse me.")
    assert clip.path == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"


def test_meld_joins_its_tables_with_what_audio_there_is(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    for split, emotion in (("train", "joy"), ("dev", "sadness")):
        (tmp_path / f"{split}_sent_emo.csv").write_text(
            header + f'1,"Oh, no",Ross,{emotion},x,0,3\n'
        )
    plant(tmp_path, "train_splits/dia0_utt3.mp4")
    clips = read("meld", tmp_path)
    train, dev = clips["train_dia0_utt3"], clips["dev_dia0_utt3"]
    assert (train.label, train.path, train.kind) == (
        "happy",
        "train_splits/dia0_utt3.mp4",
        "speech",
    )
    assert (dev.label, dev.path, dev.kind) == ("sad", "", "text")
    assert dev.transcript == "Oh, no"


def test_goemotions_shares_one_vote_among_its_labels(tmp_path: Path) -> None:
    (tmp_path / "emotions.txt").write_text("joy\nanger\nneutral\nannoyance\n")
    (tmp_path / "dev.tsv").write_text("I am\t0,1,3\tid1\nYou\t2\tid2\n")
    clips = read("goemotions", tmp_path)
    assert clips["id1"].votes == pytest.approx({"happy": 1 / 3, "angry": 2 / 3})
    assert (clips["id2"].label, clips["id2"].kind, clips["id2"].split) == ("neutral", "text", "dev")


# --- a plain CSV ----------------------------------------------------------------------------------


def test_a_plain_csv_with_labels_or_with_votes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,label,speaker,split,note\na/x.wav,Anger,s1,train,hm\ny.wav,U,s2,dev,\nz.wav,,s3,,\n"
    )
    (tmp_path / "votes.csv").write_text("path,angry,other,sad,valence\nx.wav,2,1,0,0.25\n")
    clips = read("csv", tmp_path / "labels.csv")
    assert [(c.id, c.label, c.split) for c in clips.values()] == [
        ("a/x", "angry", "train"),
        ("y", "surprise", "dev"),
        ("z", None, ""),
    ]
    (voted,) = read_corpus("csv", tmp_path / "votes.csv").clips
    assert voted.votes == {"angry": 2.0, "other": 1.0}
    assert voted.attributes == {"valence": 0.25}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label\nx.wav,glee\n", "t.csv:2: unknown label 'glee'; known: angry"),
        ("path,split\nx.wav,summer\n", "t.csv:2: unknown split 'summer'; known: train"),
        ("path,angry\nx.wav,many\n", "t.csv:2: a count of votes is not a number"),
        ("path,valence\nx.wav,5\n", "attribute valence = 5.0; known"),
        ("path,angry\nx.wav,-1\n", "counts must be 0 or more"),
        ("name,label\nx.wav,sad\n", "neither a column `path` nor `id`"),
        ("path,label\n", "lists no clips"),
        ("path\nx.wav\nx.wav\n", "'x' is there twice"),
    ],
)
def test_a_broken_csv_names_line_and_remedy(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_corpus("csv", tmp_path / "t.csv")


# --- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corpus", "name", "content"),
    [
        ("goemotions", "train.tsv", b"no tabs at all\n"),
        ("goemotions", "train.tsv", b"text\t99\tid\n"),
        ("goemotions", "train.tsv", b"\xff\xfe\t0\tid\n"),
        ("meld", "train_sent_emo.csv", b"Utterance\nOh\n"),
        (
            "msp-podcast",
            "labels_consensus.csv",
            b"FileName,EmoClass,EmoAct,Split_Set\na.wav,A,x,Train",
        ),
        ("msp-podcast", "labels_consensus.json", b'{"a.wav": "A"}'),
        ("msp-podcast", "labels_consensus.json", b"{"),
        ("cremad", "processedResults/tabulatedVotes.csv", b'"",A\n100001,many\n'),
    ],
)
def test_a_file_that_is_not_as_published_is_refused(
    corpus: str, name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "emotions.txt").write_text("joy\n")
    plant(tmp_path, name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=str(tmp_path)):
        read_corpus(corpus, tmp_path)


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_a_folder_without_the_corpus_is_refused_by_name(corpus: str, tmp_path: Path) -> None:
    plant(tmp_path, "something.wav")
    with pytest.raises(DataError, match=str(tmp_path)):
        read_corpus(corpus, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_corpus(corpus, tmp_path / "none")


def test_an_unknown_corpus_is_refused_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'ravdess'"):
        read_corpus("ravdes", tmp_path)


@pytest.mark.parametrize(
    ("corpus", "clips"), [("ravdess", 1_080), ("nemo", 4_481), ("emogator", 3_210)]
)
def test_file_names_agree_with_the_index_of_the_real_data(corpus: str, clips: int) -> None:
    if not (SHARED / "speech.csv").is_file():
        pytest.skip(f"{SHARED} is not here")
    indexed = {
        Path(c.path).stem: c
        for c in read_corpus("csv", SHARED / "speech.csv").clips
        if c.corpus == corpus
    }
    found = read(corpus, SHARED / corpus)
    assert len(found) == len(indexed) == clips
    for name, clip in found.items():
        assert (clip.label, clip.speaker) == (indexed[name].label, indexed[name].speaker)


def test_goemotions_of_the_real_data_has_all_its_comments() -> None:
    folder = SHARED / "text" / "goemotions"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    clips = read_corpus("goemotions", folder).clips
    assert len(clips) == 43_410 + 5_426
    assert {c.label for c in clips} == {*LABELS, None} - {"contempt"}


def test_published_labels_that_are_not_those_of_the_votes_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_msp(tmp_path, 1, torn=0, hidden=0)
    table = tmp_path / "Labels" / "labels_consensus.csv"
    lines = table.read_text("utf-8").splitlines()
    lines[1] = lines[1].replace(",A,", ",N,")  # four of five said angry
    lines[2] = lines[2].replace(",C,", ",X,")
    table.write_text("\n".join(lines) + "\n", "utf-8")
    out = tmp_path / "m.jsonl"
    command = ["prepare", "msp-podcast", str(tmp_path), "--out", str(out)]
    for more, labels in ([], ["neutral", None]), (["--consensus", "votes"], ["angry", "contempt"]):
        assert main([*command, *more]) == 0
        said = capsys.readouterr().out
        assert "2 published labels are not those of the votes" in said
        assert "MSP-PODCAST_0001_0001: published neutral, votes angry" in said
        first, second, *rest = read_manifest(out).clips
        assert [first.label, second.label] == labels
        assert first.votes == {"angry": 4.0, "contempt": 1.0}
        assert not any(clip.published for clip in rest)
        main(["check", str(out)])
        found = capsys.readouterr().out
        assert ("published no agreement, votes contempt" in found) == (not more)
