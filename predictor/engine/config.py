"""Sizes from a checkpoint's ``config.yaml``, each within bounds before anything is made of it."""

from pathlib import Path
from typing import Any

import yaml

from predictor.engine.errors import InvalidModel
from predictor.engine.files import KIB, read_regular
from predictor.engine.frontend import FrontendConfig
from predictor.engine.network import NetworkConfig

MAX_BYTES = 64 * KIB
"""SenseVoiceSmall's own has 2 KiB."""

MAX_DEPTH = 16
"""Most mappings and lists within each other. SenseVoiceSmall's own has 3."""

LARGEST = {
    "fs": 192_000,
    "n_mels": 512,
    "frame_length": 1_000,
    "frame_shift": 1_000,
    "lfr_m": 64,
    "lfr_n": 64,
    "output_size": 8_192,
    "attention_heads": 256,
    "linear_units": 65_536,
    "num_blocks": 1_024,
    "tp_blocks": 1_024,
    "kernel_size": 1_024,
}
"""Well beyond any such network, and small enough that no damaged size asks for all the memory there is."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, with which a few lines stand for gigabytes, and not nested without end."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_config(path: Path, vocab_size: int) -> tuple[FrontendConfig, NetworkConfig]:
    """Sizes from a checkpoint's ``config.yaml``.

    Raises:
        InvalidModel: another architecture, a missing section, or a size out of bounds.
    """
    content = read_regular(path, MAX_BYTES)
    try:
        # A loader that is safe: the linter knows only PyYAML's own.
        config = yaml.load(content.decode(), _PlainLoader)  # noqa: S506
    except yaml.YAMLError as error:
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise InvalidModel(f"{path.name}: not plain YAML: {problem[:100]}") from error
    except (ValueError, OverflowError) as error:
        raise InvalidModel(f"{path.name}: not plain YAML") from error
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
    """The fields of a section that are ours, each of its type and within its bounds.

    Raises:
        TypeError, ValueError: one is not; says which.
    """
    if not isinstance(section, dict):
        raise TypeError("frontend_conf and encoder_conf must be mappings")
    known = {name: section[name] for name in names if name in section}
    for name, value in known.items():
        if name == "window":
            if not isinstance(value, str) or len(value) > 40:
                raise ValueError("window must be 'hamming'")
        elif name.endswith("_rate"):
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise ValueError(f"{name} must be a number from 0 to 1")
        elif type(value) is not int:
            raise ValueError(f"{name} must be a whole number")
        elif name not in LARGEST:
            raise ValueError(f"{name} does not belong here: it follows from other sizes")
        elif value > LARGEST[name]:
            raise ValueError(f"{name} must be at most {LARGEST[name]}")
    return known
