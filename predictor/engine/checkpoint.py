"""A prepared model directory: what it holds, how it is verified and loaded.

Layout: ``model.safetensors`` (as trained), ``model.int8.safetensors`` (for the CPU), ``config.yaml``, the
CMVN file, the sentencepiece model, and ``model-manifest.json`` with the sha256 of each. Beside them
perhaps the int8 graphs compiled for one kind of CPU. Nothing here opens a pickle. A file is verified
before it is read, and only what is served is read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from predictor.engine.config import read_config
from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel, OutOfMemory
from predictor.engine.files import GIB, KIB, open_regular, read_regular
from predictor.engine.frontend import Frontend, read_cmvn
from predictor.engine.network import Network, Precision
from predictor.engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from predictor.engine.encoder import SenseVoiceNetwork

WEIGHTS = "model.safetensors"
INT8_WEIGHTS = "model.int8.safetensors"
CONFIG = "config.yaml"
CMVN = "am.mvn"
MANIFEST = "model-manifest.json"

PICKLED_WEIGHTS = "model.pt"
"""As a model hub has them; see :mod:`predictor.engine.prepare`."""

COMPILED_ENCODER = "encoder.int8.blob"
COMPILED_HEAD = "head.int8.blob"

MAX_MANIFEST_BYTES = 64 * KIB

MAX_FILE_BYTES = 8 * GIB
"""No file of a model has more: SenseVoiceSmall's weights in float32 have 0.9 GiB."""

UNREADABLE = (SafetensorError, LookupError, TypeError, ValueError, OSError)
"""What loading says to bytes that are no safetensors, or hold types that NumPy or torch do not have."""


class Manifest(BaseModel):
    """``model-manifest.json``.

    Attributes:
        name: e.g. ``SenseVoiceSmall``.
        source: where the files came from, e.g. ``modelscope://iic/SenseVoiceSmall``.
        revision: commit or tag of the source; empty where it has none.
        licence: SPDX id or the licence's name; empty where unknown.
        notice: what every user must be told, e.g. that a model is not for production.
        tokenizer: file name of the sentencepiece model.
        compiled_for: OpenVINO version and CPU that the compiled int8 graphs are for; empty where there
            are none.
        files: sha256 of every other file, by name.
        checksum: see :func:`checksum`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=1, ge=1, le=1)
    name: str
    source: str = ""
    revision: str = ""
    licence: str = ""
    notice: str = ""
    tokenizer: str
    compiled_for: str = ""
    files: dict[str, str]
    checksum: str

    @property
    def digest(self) -> str:
        """sha256 over the files' names and digests: equal for equal content, wherever it lies and
        whatever CPU it was compiled for."""
        listing = "".join(
            f"{digest}  {name}\n"
            for name, digest in sorted(self.files.items())
            if name not in (COMPILED_ENCODER, COMPILED_HEAD)
        )
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def version(self) -> str:
        """The source's revision, or the first 12 digits of the digest."""
        return self.revision or self.digest[:12]


class Checkpoint:
    """A model directory whose small files are read and verified; the weights are when asked for.

    Args:
        directory: a prepared model directory.

    Raises:
        InvalidModel: a file is missing, altered, or not of this architecture; names the file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = read_manifest(directory)
        verify(directory, self.manifest, (CONFIG, CMVN, self.manifest.tokenizer))
        self.tokenizer = Tokenizer(directory / self.manifest.tokenizer)
        self.frontend_config, self.network_config = read_config(
            directory / CONFIG, self.tokenizer.vocab_size
        )
        try:
            self.cmvn = read_cmvn(directory / CMVN)
            self._frontend = Frontend(self.frontend_config, self.cmvn)
        except ValueError as error:
            raise InvalidModel(str(error)) from error

    def best_precision(self, device: str) -> Precision:
        """bf16 on a GPU; on a CPU int8 where the directory has it and the CPU multiplies it, else fp32."""
        if device.startswith("cuda"):
            return "bf16"
        has_int8 = INT8_WEIGHTS in self.manifest.files
        return "int8" if has_int8 and multiplies_int8() else "fp32"

    def network(self, device: str, precision: Precision, threads: int, passes: int = 1) -> Network:
        """Verify and load the weights.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            precision: int8 is for the CPU alone.
            threads: CPU threads of one pass.
            passes: passes that may run at once.

        Raises:
            InvalidModel: the weights are missing, altered, or do not fit the config.
        """
        # Imported here, as OpenVINO is: each takes a second or more, and only one is needed.
        if precision == "int8":
            if device != "cpu":
                raise InvalidModel(f"precision int8 runs on the CPU, not on {device}")
            return self._int8_network(threads, passes)
        if device == "cpu":
            from predictor.engine.torch_network import TorchNetwork

            return TorchNetwork(self.module(device, precision), self._frontend, threads)
        from predictor.engine.gpu_network import GpuNetwork

        return GpuNetwork(self.module(device, precision), self.frontend_config, self.cmvn)

    def module(self, device: str, precision: Precision) -> "SenseVoiceNetwork":
        """Verify and load the weights into torch's network, in any precision but int8."""
        import torch
        from safetensors.torch import load_file

        from predictor.engine.torch_network import DTYPES, build_module

        verify(self.directory, self.manifest, [WEIGHTS])
        try:
            state = load_file(self.directory / WEIGHTS, device=device)
            return build_module(self.network_config, state, DTYPES[precision])
        except torch.OutOfMemoryError:
            raise OutOfMemory(f"{WEIGHTS}: {device} has not the memory for it") from None
        except UNREADABLE as error:
            raise InvalidModel(f"{WEIGHTS}: not a safetensors file of numbers") from error

    def _int8_network(self, threads: int, passes: int) -> Network:
        from predictor.engine import int8

        if self.manifest.compiled_for == int8.target():
            verify(self.directory, self.manifest, (COMPILED_ENCODER, COMPILED_HEAD))
            try:
                encoder = int8.load_compiled(self.directory / COMPILED_ENCODER, threads, passes)
                head = int8.load_compiled(
                    self.directory / COMPILED_HEAD, threads, passes, exact=True
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise InvalidModel(
                    f"{COMPILED_ENCODER} or {COMPILED_HEAD}: not a graph that OpenVINO compiled"
                ) from error
        else:
            graphs = int8.graph_builder()(self.network_config, self._int8_weights())
            try:
                encoder = int8.compile_graph(graphs.encoder(), threads, passes)
                head = int8.compile_graph(graphs.head(), threads, passes, exact=True)
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                raise InvalidModel(f"{INT8_WEIGHTS} does not fit {CONFIG}: {error}") from error
        return int8.Int8Network(self._frontend, encoder, head)

    def _int8_weights(self) -> dict[str, Any]:
        from safetensors.numpy import load_file

        if INT8_WEIGHTS not in self.manifest.files:
            raise InvalidModel(f"{self.directory} has no {INT8_WEIGHTS}: prepare the model again")
        verify(self.directory, self.manifest, [INT8_WEIGHTS])
        try:
            weights = load_file(self.directory / INT8_WEIGHTS)
        except UNREADABLE as error:
            raise InvalidModel(f"{INT8_WEIGHTS}: not a safetensors file of numbers") from error
        # A graph takes what it needs and would not miss the rest, as torch does.
        norm = ".norm1.weight"
        found = {name.removesuffix(norm) for name in weights if name.endswith(norm)}
        if found != set(self.network_config.blocks):
            raise InvalidModel(
                f"{INT8_WEIGHTS} does not fit {CONFIG}: it has {len(found)} blocks, "
                f"not {len(self.network_config.blocks)}"
            )
        return weights


def read_manifest(directory: Path) -> Manifest:
    try:
        content = read_regular(directory / MANIFEST, MAX_MANIFEST_BYTES)
        manifest = Manifest.model_validate_json(content)
    except InvalidModel as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise InvalidModel(
            f"{directory} is not a prepared model directory: no {MANIFEST} "
            "(make one with `python -m predictor prepare SRC DST`)"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidModel(
            f"{MANIFEST}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        ) from error
    for name in (*manifest.files, manifest.tokenizer):
        if name in {"", ".", ".."} or Path(name).name != name or not name.isprintable():
            raise InvalidModel(f"{MANIFEST}: {name[:80]!r} is not a plain file name")
    compiled = (COMPILED_ENCODER, COMPILED_HEAD) if manifest.compiled_for else ()
    for name in (WEIGHTS, CONFIG, CMVN, manifest.tokenizer, *compiled):
        if name not in manifest.files:
            raise InvalidModel(f"{MANIFEST}: no digest of {name}")
    if manifest.checksum != checksum(json.loads(content)):
        raise InvalidModel(
            f"{MANIFEST}: was altered after the model was prepared: prepare the model again"
        )
    return manifest


def verify(directory: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raises: InvalidModel: a file is missing, is none, or its sha256 is not the manifest's."""
    for name in names:
        expected = manifest.files[name]
        actual = sha256(directory / name)
        if actual != expected:
            raise InvalidModel(f"{name}: sha256 is {actual}, {MANIFEST} says {expected}")


def checksum(fields: Mapping[str, Any]) -> str:
    """sha256 over a manifest's fields but for ``checksum`` itself, as JSON with sorted keys: a damaged
    manifest must not pass for another one."""
    others = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's content.

    Raises:
        InvalidModel: the file is missing, is no regular file, too large, or the disk gives it no more.
    """
    with open_regular(path, MAX_FILE_BYTES) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidModel(f"{path.name}: cannot be read: {error.strerror}") from None


def write_manifest(directory: Path, tokenizer: str, name: str, **about: str) -> Manifest:
    """Digest the model's files in ``directory`` and write ``model-manifest.json`` beside them.

    Args:
        directory: holds the weights, ``config.yaml``, ``am.mvn`` and the tokenizer.
        tokenizer: file name of the sentencepiece model.
        name: the model's name.
        about: ``source``, ``revision``, ``licence``, ``notice``, ``compiled_for``.
    """
    known = (WEIGHTS, INT8_WEIGHTS, CONFIG, CMVN, tokenizer, COMPILED_ENCODER, COMPILED_HEAD)
    files = {file: sha256(directory / file) for file in known if (directory / file).exists()}
    unsealed = Manifest(name=name, tokenizer=tokenizer, files=files, checksum="", **about)  # type: ignore[arg-type]
    manifest = unsealed.model_copy(update={"checksum": checksum(unsealed.model_dump())})
    text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest
