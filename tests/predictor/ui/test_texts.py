import re
from pathlib import Path

from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS
from predictor.ui import texts
from predictor.ui.examples import EXAMPLES

ENGLISH, CHINESE = (texts.read(language) for language in texts.LANGUAGES)


def test_both_languages_say_the_same_things():
    assert list(ENGLISH) == list(CHINESE)
    for name, text in ENGLISH.items():
        if isinstance(text, dict):
            assert text.keys() == CHINESE[name].keys()
            continue
        assert text
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", CHINESE[name]))


def test_every_label_has_a_name():
    for told in (ENGLISH, CHINESE):
        assert set(told["languages"]) == set(LANGUAGE_LABELS)
        assert set(told["emotions"]) == set(EMOTION_LABELS)
        assert set(told["events"]) == set(EVENT_LABELS)


def test_every_example_has_a_name():
    assert {f"example_{example.name}" for example in EXAMPLES} <= set(ENGLISH)


def test_every_text_is_said_somewhere():
    page = Path(texts.__file__).parents[1]
    code = "".join(
        file.read_text("utf-8") for file in (*page.glob("*.py"), *page.glob("assets/*.js"))
    )
    made_up = ("example_", "status_")
    assert [n for n in ENGLISH if not n.startswith(made_up) and f'"{n}"' not in code] == []
