"""Common Voice (Ardila et al. 2020, arXiv:1912.06670): read sentences, the test split of every language."""

from pathlib import Path

from pipelines.data.adapter import Adapter, InvalidDataset, read_table
from pipelines.data.manifest import Utterance

LANGUAGES = {"zh-CN": "zh", "zh-HK": "yue", "yue": "yue", "en": "en", "ja": "ja", "ko": "ko"}
"""Folder → language. Sentences of zh-HK are Cantonese, as are those of yue."""

TABLE = "test.tsv"
"""The validated clips that published figures are on; validated.tsv also holds the training split."""


def _read(root: Path) -> list[Utterance]:
    folders = [name for name in LANGUAGES if (root / name).is_dir()]
    if not folders:
        raise InvalidDataset(f"none of the folders {', '.join(LANGUAGES)} in {root}")
    return [utterance for name in folders for utterance in _language(root / name)]


def _language(folder: Path) -> list[Utterance]:
    # The tables quote nothing: a sentence may hold one quotation mark.
    rows = read_table(folder / TABLE, ("path", "sentence"), delimiter="\t", quoted=False)
    return [
        Utterance(
            id=f"{folder.name}/{row['path']}",
            audio=str(folder / "clips" / row["path"]),
            text=row["sentence"],
            language=LANGUAGES[folder.name],
        )
        for row in rows
    ]


ADAPTER = Adapter(
    name="common-voice",
    title="Common Voice",
    source="https://commonvoice.mozilla.org/datasets (one archive a language; unpack them together)",
    terms="CC0; who downloads it agrees not to identify speakers",
    languages=("zh", "yue", "en", "ja", "ko"),
    labels=("text", "language"),
    layout=f"a folder a language ({', '.join(LANGUAGES)}), each with {TABLE} and clips/*.mp3",
    read=_read,
)
