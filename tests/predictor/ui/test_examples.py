import wave

from predictor.engine.segment import SPAN_SECONDS
from predictor.ui.examples import EXAMPLES, write


def test_every_example_is_there(tmp_path):
    assert {"zh", "en", "yue", "ja", "ko"} < {example.name for example in EXAMPLES}
    for example in EXAMPLES:
        assert write(example, tmp_path).stat().st_size > 500


def test_the_conversation_is_longer_than_a_span_and_written_once(tmp_path):
    path = write(EXAMPLES[0], tmp_path)
    with wave.open(str(path)) as file:
        assert SPAN_SECONDS < file.getnframes() / file.getframerate() < 45
    written = path.stat().st_mtime_ns
    assert write(EXAMPLES[0], tmp_path).stat().st_mtime_ns == written
