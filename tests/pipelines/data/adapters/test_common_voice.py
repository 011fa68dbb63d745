import pytest

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tlocale\n"


def make(root, locale, sentences, audio, text):
    rows = ""
    for number, sentence in enumerate(sentences):
        clip = f"common_voice_{locale}_{number}.mp3"
        audio(root / locale / "clips" / clip)
        rows += f"c0ffee\t{clip}\tabc\t{sentence}\t2\t0\t\t{locale}\n"
    text(root / locale / "test.tsv", HEADER + rows)


@pytest.mark.parametrize(
    ("locale", "language"),
    [("zh-CN", "zh"), ("zh-HK", "yue"), ("yue", "yue"), ("en", "en"), ("ja", "ja"), ("ko", "ko")],
)
def test_the_folder_gives_the_language(tmp_path, audio, text, adapt, locale, language):
    make(tmp_path / "cv", locale, ["一二三"], audio, text)
    utterances = adapt("common-voice", tmp_path / "cv")
    one = utterances[f"{locale}/common_voice_{locale}_0.mp3"]
    assert (one.text, one.language) == ("一二三", language)


def test_all_known_languages_are_taken_and_others_left(tmp_path, audio, text, adapt):
    for locale in ("ko", "fr", "en"):
        make(tmp_path / "cv", locale, ["a", "b"], audio, text)
    utterances = adapt("common-voice", tmp_path / "cv")
    assert [one.language for one in utterances.values()] == ["en", "en", "ko", "ko"]


def test_a_lone_quotation_mark_belongs_to_the_sentence(tmp_path, audio, text, adapt):
    make(tmp_path / "cv", "en", ['"Well, he said', "Next one."], audio, text)
    utterances = adapt("common-voice", tmp_path / "cv")
    assert [one.text for one in utterances.values()] == ['"Well, he said', "Next one."]


def test_a_root_without_languages_is_told_which_folders_count(tmp_path, complaint):
    (tmp_path / "fr").mkdir()
    message = complaint("common-voice", tmp_path)
    assert "none of the folders zh-CN, zh-HK, yue, en, ja, ko" in message


def test_a_missing_table_is_named(tmp_path, complaint):
    (tmp_path / "en").mkdir()
    assert f"no file {tmp_path / 'en' / 'test.tsv'}" in complaint("common-voice", tmp_path)


def test_a_table_without_its_column_is_named(tmp_path, text, complaint):
    text(tmp_path / "en/test.tsv", "path\ttext\na.mp3\thello\n")
    assert "test.tsv: no column sentence" in complaint("common-voice", tmp_path)


def test_a_short_row_is_named_by_its_line(tmp_path, text, complaint):
    text(tmp_path / "en/test.tsv", "path\tsentence\na.mp3\thello\nb.mp3\n")
    assert "test.tsv:3: fewer columns" in complaint("common-voice", tmp_path)


def test_a_missing_clip_is_named(tmp_path, audio, text, complaint):
    make(tmp_path / "cv", "en", ["a"], audio, text)
    (tmp_path / "cv/en/clips/common_voice_en_0.mp3").unlink()
    assert "common_voice_en_0.mp3" in complaint("common-voice", tmp_path / "cv")
