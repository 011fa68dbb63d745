"""What an adapter of a public data set is, and how it reads the set's own files."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.manifest import Utterance


class InvalidDataset(ValueError):
    """Names the file or folder that is missing or wrong, and the layout that was expected."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Turns a public set's own layout, as its archive unpacks, into utterances.

    Attributes:
        name: how commands name it.
        title: how its authors name it.
        source: where the user gets it.
        terms: its licence in words.
        languages: codes of :class:`~pipelines.data.manifest.Utterance`; ``nospeech`` where nobody speaks.
        labels: fields of an utterance that the set fills.
        layout: files and folders that the root must hold.
        read: root → utterances whose audio is an absolute path, perhaps with a time span
            (:mod:`pipelines.data.excerpt`). It need not check that the audio exists.
    """

    name: str
    title: str
    source: str
    terms: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    layout: str
    read: Callable[[Path], list[Utterance]]

    def utterances(self, root: Path) -> list[Utterance]:
        """Every utterance of the set, in an order that depends on its files alone.

        Raises:
            InvalidDataset: the root does not hold the set's layout.
        """
        try:
            utterances = self.read(require_folder(root.absolute()))
            if not utterances:
                raise InvalidDataset(f"{root} holds no utterance")
        except InvalidDataset as error:
            raise self.wrong(root, str(error)) from error
        return utterances

    def wrong(self, root: Path, problem: str) -> InvalidDataset:
        """The error that tells the problem and the layout."""
        return InvalidDataset(f"{self.title}: {problem}. Expected in {root}: {self.layout}")


def require_folder(path: Path) -> Path:
    """Raises:
    InvalidDataset: it is not there.
    """
    if not path.is_dir():
        raise InvalidDataset(f"no folder {path}")
    return path


def require_matches(folder: Path, pattern: str) -> list[Path]:
    """Paths under the folder that match, sorted, without the ``._`` companions that macOS archives carry.

    Raises:
        InvalidDataset: there is none.
    """
    found = sorted(p for p in require_folder(folder).glob(pattern) if not p.name.startswith("._"))
    if not found:
        raise InvalidDataset(f"no {pattern} in {folder}")
    return found


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file.

    Raises:
        InvalidDataset: it cannot be read.
    """
    try:
        # Not splitlines, which also breaks at the line separators that some transcripts hold.
        return path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except FileNotFoundError as error:
        raise InvalidDataset(f"no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{path}: {error}") from error


def read_table(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", quoted: bool = True
) -> Iterator[dict[str, str]]:
    """Rows of a table with a header.

    Args:
        path: UTF-8 text.
        columns: what every row must hold.
        delimiter: between columns.
        quoted: whether quotation marks delimit a field, rather than belong to it.

    Raises:
        InvalidDataset: no such file, or it lacks a column.
    """
    reader = csv.DictReader(
        (line + "\n" for line in read_lines(path)),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise InvalidDataset(f"{path}: no column {', '.join(missing)}")
    for row in reader:
        if any(row[column] is None for column in columns):
            raise InvalidDataset(f"{path}:{reader.line_num}: fewer columns than the header")
        yield row


def translate(labels: Mapping[str, str], name: str, where: Path) -> str:
    """The set's name of a label → SenseVoice's.

    Raises:
        InvalidDataset: the set is not known to have such a label.
    """
    if name not in labels:
        raise InvalidDataset(f"{where}: label {name!r} is not one of {', '.join(labels)}")
    return labels[name]
