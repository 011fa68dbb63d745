"""The README's table of settings is what the settings say."""

from predictor.server.settings_table import README, with_table


def test_the_table_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert "SENSEVOICE_MODEL_DIR" in text
    assert with_table(text) == text, "run `python -m predictor.server.settings_table`"
