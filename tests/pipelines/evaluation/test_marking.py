"""What differs between two texts."""

from pipelines.evaluation.marking import MAX_UNITS, Piece, mark


def test_words_are_aligned_as_words() -> None:
    marked = mark("turn on the light", "turn the lights", words=True)
    assert marked.reference[0] == marked.hypothesis[0] == Piece("turn", "equal")
    assert marked.reference[-1] == Piece("light", "substitute")
    assert marked.hypothesis[-1] == Piece("lights", "substitute")
    assert " ".join(piece.text for piece in marked.reference) == "turn on the light"
    assert " ".join(piece.text for piece in marked.hypothesis) == "turn the lights"
    assert marked.separator == " "


def test_characters_are_aligned_as_characters() -> None:
    marked = mark("今天天气好", "今天气好吗", words=False)
    assert [piece.text for piece in marked.reference if piece.change == "delete"] == ["天"]
    assert [piece.text for piece in marked.hypothesis if piece.change == "insert"] == ["吗"]
    assert marked.separator == ""


def test_nothing_heard_deletes_everything_and_nothing_said_inserts_everything() -> None:
    assert mark("请打开", "", words=False).reference == [Piece("请打开", "delete")]
    assert mark("请打开", "", words=False).hypothesis == []
    assert mark("", "two words", words=True).hypothesis == [Piece("two words", "insert")]
    assert mark("", "", words=False).reference == []


def test_a_long_text_is_cut_and_says_how_much_is_hidden() -> None:
    marked = mark("字" * (MAX_UNITS + 7), "字", words=False)
    assert sum(len(piece.text) for piece in marked.reference) == MAX_UNITS
    assert marked.hidden == 7
    assert mark("a " * (MAX_UNITS + 2), "a", words=True).hidden == 2
