import shutil

import pytest

from pipelines.data.digest import digest
from pipelines.data.manifest import InvalidManifest, Utterance, write_manifest

ROWS = [
    Utterance(id="a", audio="a.wav", text="one", language="en"),
    Utterance(id="b", audio="b.wav", text="two", language="en"),
]


@pytest.fixture
def folder(tmp_path, audio):
    audio(tmp_path / "set" / "a.wav", 0.1)
    audio(tmp_path / "set" / "b.wav", 0.2)
    return tmp_path / "set"


def of(folder, rows):
    write_manifest(folder / "manifest.jsonl", rows)
    return digest(folder / "manifest.jsonl")


def test_the_same_content_elsewhere_has_the_same_digest(tmp_path, folder):
    before = of(folder, ROWS)
    assert len(bytes.fromhex(before)) == 32
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert digest(elsewhere) == before
    absolute = [one.model_copy(update={"audio": str(elsewhere / one.audio)}) for one in ROWS]
    assert of(tmp_path, absolute) == before
    uris = [one.model_copy(update={"audio": (folder / one.audio).as_uri()}) for one in ROWS]
    assert of(tmp_path, uris) == before


def test_the_order_of_fields_and_blank_lines_do_not_count(tmp_path, folder):
    before = of(folder, ROWS[:1])
    (folder / "manifest.jsonl").write_text(
        '\n{"language": "en", "text": "one", "audio": "a.wav", "id": "a", "emotion": null}\n'
    )
    assert digest(folder) == before


def test_any_label_any_sample_and_the_order_count(folder, audio):
    before = of(folder, ROWS)
    seen = {before, of(folder, ROWS[::-1]), of(folder, ROWS[:1])}
    for change in ({"text": "won"}, {"emotion": "SAD"}, {"id": "c"}, {"noise": "street"}):
        seen.add(of(folder, [ROWS[0].model_copy(update=change), ROWS[1]]))
    assert len(seen) == 7
    audio(folder / "b.wav", 0.3)
    assert of(folder, ROWS) not in seen


def test_remote_audio_counts_by_its_uri_and_is_not_fetched(tmp_path):
    one = Utterance(id="a", audio="https://host.invalid/a.wav")
    assert of(tmp_path, [one]) == of(tmp_path, [one])
    other = one.model_copy(update={"audio": "https://host.invalid/b.wav"})
    assert of(tmp_path, [other]) != of(tmp_path, [one])


def test_audio_that_is_not_there_is_named(folder):
    (folder / "b.wav").unlink()
    with pytest.raises(InvalidManifest, match=r"manifest\.jsonl: audio of 'b': .*b\.wav"):
        of(folder, ROWS)
