HEADER = "filename,fold,target,category,esc10,src_file,take\n"
CLASSES = {
    "laughing": "Laughter",
    "clapping": "Applause",
    "crying_baby": "Cry",
    "sneezing": "Sneeze",
    "breathing": "Breath",
    "coughing": "Cough",
}


def make(root, audio, text):
    rows = ""
    for number, name in enumerate(["dog", *CLASSES, "rain"]):
        file = f"1-{number}-A-{number}.wav"
        audio(root / "audio" / file)
        rows += f"{file},1,{number},{name},False,100032,A\n"
    text(root / "meta/esc50.csv", HEADER + rows)


def test_only_classes_that_sensevoice_knows_are_taken(tmp_path, audio, text, adapt):
    make(tmp_path / "ESC-50-master", audio, text)
    utterances = adapt("esc-50", tmp_path / "ESC-50-master").values()
    assert [one.event for one in utterances] == list(CLASSES.values())
    assert {(one.text, one.language, one.emotion) for one in utterances} == {("", "nospeech", None)}


def test_missing_parts_are_named(tmp_path, audio, text, complaint):
    assert f"no file {tmp_path / 'meta' / 'esc50.csv'}" in complaint("esc-50", tmp_path)
    make(tmp_path, audio, text)
    (tmp_path / "audio/1-1-A-1.wav").unlink()
    message = complaint("esc-50", tmp_path)
    assert (
        f"1 of 6 audio files are missing, the first is {tmp_path / 'audio/1-1-A-1.wav'}" in message
    )


def test_another_table_is_told_by_its_columns(tmp_path, text, complaint):
    text(tmp_path / "meta/esc50.csv", "file,class\na.wav,dog\n")
    assert "esc50.csv: no column filename, category" in complaint("esc-50", tmp_path)
