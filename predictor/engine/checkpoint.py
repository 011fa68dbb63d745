"""A prepared model directory: what it holds, how it is verified and loaded.

Layout: ``model.safetensors`` (as trained), ``model.int8.safetensors`` (for the CPU), ``config.yaml``, the
CMVN file, the sentencepiece model, and ``model-manifest.json`` with the sha256 of each. Beside them
perhaps the int8 graphs compiled for one kind of CPU. Nothing here opens a pickle. A file is verified
before it is read, and only what is served is read.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel
from predictor.engine.frontend import Frontend, FrontendConfig, read_cmvn
from predictor.engine.network import Network, NetworkConfig, Precision
from predictor.engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from predictor.engine.encoder import SenseVoiceNetwork

WEIGHTS = "model.safetensors"
INT8_WEIGHTS = "model.int8.safetensors"
CONFIG = "config.yaml"
CMVN = "am.mvn"
MANIFEST = "model-manifest.json"

COMPILED_ENCODER = "encoder.int8.blob"
COMPILED_HEAD = "head.int8.blob"

MAX_SIZE = 65_536
"""No size in a config may exceed this: a damaged one must not ask for all the memory there is."""


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
        from safetensors.torch import load_file

        from predictor.engine.torch_network import DTYPES, build_module

        verify(self.directory, self.manifest, [WEIGHTS])
        try:
            state = load_file(self.directory / WEIGHTS, device=device)
        except (SafetensorError, OSError) as error:
            raise InvalidModel(f"{WEIGHTS}: not a safetensors file") from error
        return build_module(self.network_config, state, DTYPES[precision])

    def _int8_network(self, threads: int, passes: int) -> Network:
        from predictor.engine import int8

        if self.manifest.compiled_for == int8.target():
            verify(self.directory, self.manifest, (COMPILED_ENCODER, COMPILED_HEAD))
            encoder = int8.load_compiled(self.directory / COMPILED_ENCODER, threads, passes)
            head = int8.load_compiled(self.directory / COMPILED_HEAD, threads, passes, exact=True)
        else:
            graphs = int8.graph_builder()(self.network_config, self._int8_weights())
            try:
                encoder = int8.compile_graph(graphs.encoder(), threads, passes)
                head = int8.compile_graph(graphs.head(), threads, passes, exact=True)
            except (KeyError, RuntimeError) as error:
                raise InvalidModel(f"{INT8_WEIGHTS} does not fit {CONFIG}: {error}") from error
        return int8.Int8Network(self._frontend, encoder, head)

    def _int8_weights(self) -> dict[str, Any]:
        from safetensors.numpy import load_file

        if INT8_WEIGHTS not in self.manifest.files:
            raise InvalidModel(f"{self.directory} has no {INT8_WEIGHTS}: prepare the model again")
        verify(self.directory, self.manifest, [INT8_WEIGHTS])
        try:
            weights = load_file(self.directory / INT8_WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise InvalidModel(f"{INT8_WEIGHTS}: not a safetensors file") from error
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
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
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
        if name in {"", ".", ".."} or Path(name).name != name:
            raise InvalidModel(f"{MANIFEST}: {name!r} is not a plain file name")
    compiled = (COMPILED_ENCODER, COMPILED_HEAD) if manifest.compiled_for else ()
    for name in (WEIGHTS, CONFIG, CMVN, manifest.tokenizer, *compiled):
        if name not in manifest.files:
            raise InvalidModel(f"{MANIFEST}: no digest of {name}")
    return manifest


def verify(directory: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raises: InvalidModel: a file is missing or its sha256 is not the manifest's."""
    for name in names:
        expected = manifest.files[name]
        try:
            actual = sha256(directory / name)
        except OSError as error:
            raise InvalidModel(f"{name}: missing from {directory}") from error
        if actual != expected:
            raise InvalidModel(f"{name}: sha256 is {actual}, {MANIFEST} says {expected}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    manifest = Manifest(name=name, tokenizer=tokenizer, files=files, **about)  # type: ignore[arg-type]
    text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def read_config(path: Path, vocab_size: int) -> tuple[FrontendConfig, NetworkConfig]:
    """Sizes from a checkpoint's ``config.yaml``.

    Raises:
        InvalidModel: another architecture, a missing section, or a size out of bounds.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InvalidModel(f"{path.name}: not YAML") from error
    if not isinstance(config, dict) or config.get("model") != "SenseVoiceSmall":
        raise InvalidModel(f"{path.name}: model must be SenseVoiceSmall")
    if config.get("encoder") != "SenseVoiceEncoderSmall":
        raise InvalidModel(f"{path.name}: encoder must be SenseVoiceEncoderSmall")
    try:
        frontend = FrontendConfig(
            **_known(config.get("frontend_conf", {}), FrontendConfig.__slots__)
        )
        sizes = _known(config["encoder_conf"], NetworkConfig.__slots__)
        network = NetworkConfig(input_size=frontend.feature_size, vocab_size=vocab_size, **sizes)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"{path.name}: {error}") from error
    return frontend, network


def _known(section: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise TypeError("frontend_conf and encoder_conf must be mappings")
    for name, value in section.items():
        if isinstance(value, int) and value > MAX_SIZE:
            raise ValueError(f"{name} must be at most {MAX_SIZE}, not {value}")
        if name in names and isinstance(value, float) and not name.endswith("_rate"):
            raise ValueError(f"{name} must be a whole number, not {value}")
    return {name: value for name, value in section.items() if name in names}
