import re
from pathlib import Path

import pytest

from pipelines.data import registry
from pipelines.data.adapter import InvalidDataset
from pipelines.data.registry import ADAPTERS, find
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS

PACKAGE = Path(registry.__file__).parent
TABLE = [
    line for line in (PACKAGE / "README.md").read_text(encoding="utf-8").splitlines() if "|" in line
]


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_readme_tells_where_to_get_the_set_and_how_to_convert_it(name):
    rows = [row for row in TABLE if f"`python -m pipelines.data {name} " in row]
    assert len(rows) == 1
    address = re.search(r"https?://[^\s,;]+", ADAPTERS[name].source)
    assert address
    assert f"<{address[0]}>" in rows[0]


def test_the_readme_names_no_set_that_is_not_there():
    named = {
        found for row in TABLE for found in re.findall(r"`python -m pipelines\.data (\S+)", row)
    }
    assert named == set(ADAPTERS)


def test_every_adapter_is_listed():
    files = {path.stem for path in (PACKAGE / "adapters").glob("*.py")} - {"__init__"}
    assert files == {one.read.__module__.rpartition(".")[2] for one in ADAPTERS.values()}


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
def test_an_adapter_tells_languages_labels_and_terms(adapter):
    assert set(adapter.languages) <= set(LANGUAGE_LABELS)
    assert set(adapter.labels) <= {"text", "language", "emotion", "event", "noise"}
    assert adapter.terms
    assert adapter.layout


def test_labels_are_those_of_the_model():
    from pipelines.data.adapters import casia, crema_d, esc50, esd, iemocap, meld

    for module in (casia, crema_d, esd, iemocap, meld):
        assert set(module.EMOTIONS.values()) - {""} <= set(EMOTION_LABELS)
    assert set(esc50.EVENTS.values()) <= set(EVENT_LABELS)


def test_an_unknown_set_is_refused_with_those_there_are():
    with pytest.raises(
        InvalidDataset, match="no data set 'timit'; there are aishell-1, librispeech"
    ):
        find("timit")
