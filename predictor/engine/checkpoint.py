"""A prepared model directory: what it holds, how it is verified and loaded.

Layout: ``model.safetensors``, ``config.yaml``, the CMVN file, the sentencepiece model, and
``model-manifest.json`` with the sha256 of each. Nothing here opens a pickle.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from predictor.engine.encoder import NetworkConfig, SenseVoiceNetwork
from predictor.engine.errors import InvalidModel
from predictor.engine.frontend import Frontend, FrontendConfig, read_cmvn
from predictor.engine.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CMVN = "am.mvn"
MANIFEST = "model-manifest.json"

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
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """sha256 over the files' names and digests: equal for equal content, wherever it lies."""
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def version(self) -> str:
        """The source's revision, or the first 12 digits of the digest."""
        return self.revision or self.digest[:12]


class Checkpoint:
    """A verified model directory.

    Args:
        directory: a prepared model directory.

    Raises:
        InvalidModel: a file is missing, altered, or not of this architecture; names the file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = read_manifest(directory)
        verify(directory, self.manifest)
        self.tokenizer = Tokenizer(directory / self.manifest.tokenizer)
        self.frontend_config, self.network_config = read_config(
            directory / CONFIG, self.tokenizer.vocab_size
        )

    def frontend(self, device: torch.device) -> Frontend:
        try:
            return Frontend(self.frontend_config, read_cmvn(self.directory / CMVN)).to(device)
        except ValueError as error:
            raise InvalidModel(str(error)) from error

    def network(self, device: torch.device) -> SenseVoiceNetwork:
        """The network in float32, in evaluation mode, on a device."""
        try:
            state = load_file(self.directory / WEIGHTS, device=str(device))
        except (SafetensorError, OSError) as error:
            raise InvalidModel(f"{WEIGHTS}: not a safetensors file") from error
        return build_network(self.network_config, state)


def build_network(config: NetworkConfig, state: Mapping[str, Tensor]) -> SenseVoiceNetwork:
    """A network around existing tensors, cast to float32, without initialising weights first.

    Raises:
        InvalidModel: names or shapes differ from what the config asks for.
    """
    with torch.device("meta"):
        network = SenseVoiceNetwork(config)
    try:
        network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    except RuntimeError as error:
        raise InvalidModel(f"weights do not fit {CONFIG}: {error}") from error
    return network.eval().requires_grad_(False)


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
    for name in (WEIGHTS, CONFIG, CMVN, manifest.tokenizer):
        if name not in manifest.files:
            raise InvalidModel(f"{MANIFEST}: no digest of {name}")
    return manifest


def verify(directory: Path, manifest: Manifest) -> None:
    """Raises: InvalidModel: a file is missing or its sha256 is not the manifest's."""
    for name, expected in manifest.files.items():
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
        directory: holds ``model.safetensors``, ``config.yaml``, ``am.mvn`` and the tokenizer.
        tokenizer: file name of the sentencepiece model.
        name: the model's name.
        about: ``source``, ``revision``, ``licence``, ``notice``.
    """
    files = {file: sha256(directory / file) for file in (WEIGHTS, CONFIG, CMVN, tokenizer)}
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
