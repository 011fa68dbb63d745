"""AISHELL-1 (Bu et al. 2017, arXiv:1709.05522): read Mandarin, the test split."""

from pathlib import Path

from pipelines.data.adapter import Adapter, InvalidDataset, read_lines, require_matches
from pipelines.data.manifest import Utterance

TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"


def _read(root: Path) -> list[Utterance]:
    if not list(root.glob("wav/test/*")) and list(root.glob("wav/*.tar.gz")):
        raise InvalidDataset(f"the speakers' archives in {root / 'wav'} are not unpacked")
    audio = require_matches(root, "wav/test/*/*.wav")
    # Words are separated by spaces, which Chinese does not write.
    texts = {
        key: text.replace(" ", "")
        for key, _, text in (line.partition(" ") for line in read_lines(root / TRANSCRIPT))
    }
    # A few recordings of the set were never transcribed; every recipe leaves them out.
    return [
        Utterance(id=file.stem, audio=str(file), text=texts[file.stem], language="zh")
        for file in audio
        if file.stem in texts
    ]


ADAPTER = Adapter(
    name="aishell-1",
    title="AISHELL-1",
    source="https://www.openslr.org/33/ (data_aishell.tgz; then unpack each wav/*.tar.gz in its place)",
    terms="Apache 2.0",
    languages=("zh",),
    labels=("text", "language"),
    layout=f"wav/test/S0764/BAC009S0764W0121.wav and {TRANSCRIPT}",
    read=_read,
)
