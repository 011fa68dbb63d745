LABELS = {
    "ang": "ANGRY",
    "hap": "HAPPY",
    "exc": "HAPPY",
    "sad": "SAD",
    "neu": "NEUTRAL",
    "fea": "FEARFUL",
    "dis": "DISGUSTED",
    "sur": "SURPRISED",
    "fru": "OTHER",
    "oth": "OTHER",
    "xxx": None,
}


def make(root, audio, text, session=1, labels=LABELS):
    dialogue = f"Ses0{session}F_impro01"
    folder = root / f"Session{session}"
    evaluation = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    transcript = ""
    for number, label in enumerate(labels):
        turn = f"{dialogue}_F{number:03}"
        audio(folder / f"sentences/wav/{dialogue}/{turn}.wav")
        evaluation += (
            f"[{number}.2901 - {number}.9357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]\n"
            "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        )
        transcript += f"{turn} [00{number}.2901-00{number}.9357]: Excuse me. [LAUGHTER] Hi.\n"
        transcript += "M: [BREATHING] Hmm.\n"
    text(folder / f"dialog/EmoEvaluation/{dialogue}.txt", evaluation)
    text(folder / f"dialog/EmoEvaluation/Categorical/{dialogue}_e2_cat.txt", "not a dialogue")
    text(folder / f"dialog/EmoEvaluation/._{dialogue}.txt", "macOS\0")
    text(folder / f"dialog/transcriptions/{dialogue}.txt", transcript)


def test_the_majority_label_and_the_transcript_are_taken(tmp_path, audio, text, adapt):
    make(tmp_path / "IEMOCAP", audio, text)
    utterances = adapt("iemocap", tmp_path / "IEMOCAP")
    assert [one.emotion for one in utterances.values()] == list(LABELS.values())
    assert {one.text for one in utterances.values()} == {"Excuse me. Hi."}
    assert {one.language for one in utterances.values()} == {"en"}


def test_all_sessions_there_are_taken(tmp_path, audio, text, adapt):
    for session in (1, 5):
        make(tmp_path / "IEMOCAP", audio, text, session, ["neu", "xxx"])
    assert list(adapt("iemocap", tmp_path / "IEMOCAP")) == [
        "Ses01F_impro01_F000",
        "Ses01F_impro01_F001",
        "Ses05F_impro01_F000",
        "Ses05F_impro01_F001",
    ]


def test_an_unknown_label_is_named(tmp_path, audio, text, complaint):
    make(tmp_path, audio, text, labels=["neu", "bor"])
    message = complaint("iemocap", tmp_path)
    assert "Ses01F_impro01.txt: label 'bor' is not one of ang" in message


def test_missing_parts_are_named(tmp_path, audio, text, complaint):
    assert f"no Session[1-5] in {tmp_path}" in complaint("iemocap", tmp_path)
    make(tmp_path, audio, text, labels=["neu"])
    session = tmp_path / "Session1"
    (session / "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    assert "1 of 1 audio files are missing" in complaint("iemocap", tmp_path)
    (session / "dialog/transcriptions/Ses01F_impro01.txt").unlink()
    assert "no file " in complaint("iemocap", tmp_path)
    (session / "sentences/wav/Ses01F_impro01").rmdir()
    assert "no folder " in complaint("iemocap", tmp_path)
