"""FunASR's SenseVoiceSmall → an ONNX graph, with FunASR's own export hooks.

Run in the project's environment: it needs FunASR and torch. The ``onnx`` package comes from the rivals'
environment, whose folder is searched last, so that nothing else is taken from there.
"""

import argparse
import sys
from pathlib import Path

import torch

OPSET = 14
"""What FunASR's own export asks for."""

MAX_FRAMES = 600
"""Longest input the mask of the exported graph serves: 36 s."""


def export(hub: Path, destination: Path) -> None:
    """Write the float32 graph of the hub-like directory ``hub``."""
    from funasr import AutoModel

    model = AutoModel(model=str(hub), device="cpu", disable_update=True, disable_pbar=True)
    network = model.model.export(type="onnx", max_seq_len=MAX_FRAMES, device="cpu").eval()
    with torch.inference_mode():
        torch.onnx.export(
            network,
            network.export_dummy_inputs(),
            str(destination),
            dynamo=False,
            opset_version=OPSET,
            input_names=network.export_input_names(),
            output_names=network.export_output_names(),
            dynamic_axes=network.export_dynamic_axes(),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("hub", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("packages", help="folder of the onnx package")
    arguments = parser.parse_args()
    sys.path.append(arguments.packages)
    export(arguments.hub, arguments.destination)
