"""Training: CTC on the text, cross-entropy on the four tags, within a time budget.

Two processes with one thread each average their gradients (gloo), which on two cores is several times
faster than one process with two threads. In the first part the known times of the tokens teach
frame by frame; CTC alone would wait on its plateau of blanks for thousands of steps.
"""

import json
import math
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sentencepiece import SentencePieceProcessor
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from pipelines.demo_model import tokenizer
from pipelines.demo_model.corpus import N_MELS, log_mel
from pipelines.demo_model.dataset import TEXTNORM_QUERIES, Batch, TrainingSet
from pipelines.demo_model.prosody import EMOTIONS
from pipelines.demo_model.scoring import Heard, Scores, by_language
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.network import NetworkConfig
from predictor.engine.transcribe import LANGUAGE_QUERIES

OUTPUT_SIZE = 160
LINEAR_UNITS = 512
ATTENTION_HEADS = 4
NUM_BLOCKS = 6
TP_BLOCKS = 1
KERNEL_SIZE = 11

_WARM_UP_STEPS = 300
_FRAME_LOSS_UNTIL = 0.15
"""Share of the budget after which the frame-wise loss has faded out."""
_REPORT_STEPS = 100
_MINUTES_PER_EVALUATION = 4.0


@dataclass(frozen=True, slots=True)
class Settings:
    corpus: Path
    output: Path
    minutes: float
    seed: int
    learning_rate: float
    batch_frames: int
    """Stacked frames (60 ms) in a batch of one process."""
    processes: int


def network_config(vocab_size: int) -> NetworkConfig:
    return NetworkConfig(
        input_size=7 * N_MELS,
        output_size=OUTPUT_SIZE,
        attention_heads=ATTENTION_HEADS,
        linear_units=LINEAR_UNITS,
        num_blocks=NUM_BLOCKS,
        tp_blocks=TP_BLOCKS,
        kernel_size=KERNEL_SIZE,
        vocab_size=vocab_size,
        # No dropout: every clip is another voice, and there is no time for many passes.
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
    )


def train(settings: Settings) -> None:
    """Writes ``last.pt``, ``demo.bpe.model``, ``am.mvn`` and ``training.jsonl`` to the output."""
    settings.output.mkdir(parents=True, exist_ok=True)
    tokenizer.train(settings.output / "demo.bpe.model")
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{folder}/rendezvous"
        spawn(_work, (settings, rendezvous), settings.processes)  # type: ignore[no-untyped-call]


def loss(
    network: SenseVoiceNetwork, batch: Batch, frame_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """The training loss and its parts. ``frame_weight`` 1 → frame-wise text loss, 0 → CTC alone."""
    logits = network(batch.features, batch.n_frames, batch.language_query, batch.textnorm_query)
    tags = F.cross_entropy(logits[:, :4].flatten(0, 1), batch.tags.flatten())
    speech = logits[:, 4:]
    ctc = F.ctc_loss(
        F.log_softmax(speech, dim=-1).transpose(0, 1),
        batch.tokens,
        batch.n_frames,
        batch.n_tokens,
        reduction="none",
        zero_infinity=True,
    )
    ctc = (ctc / (batch.n_tokens + 1)).mean()
    total = tags + ctc * (1 - 0.7 * frame_weight)
    if frame_weight > 0:
        frames = F.cross_entropy(speech.flatten(0, 1), batch.frame_tokens.flatten())
        total = total + frame_weight * frames
    return total, {"ctc": ctc.item(), "tags": tags.item()}


def _work(rank: int, settings: Settings, rendezvous: str) -> None:
    """One process of the training."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    dist.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=settings.processes
    )
    processor = tokenizer.load(settings.output / "demo.bpe.model")
    data = TrainingSet(settings.corpus, processor)
    network = SenseVoiceNetwork(network_config(processor.get_piece_size()))
    optimizer = torch.optim.AdamW(_parameter_groups(network), betas=(0.9, 0.98), fused=True)
    leader = _Leader(settings, processor, data, network) if rank == 0 else None
    order = random.Random(f"{settings.seed}-order")
    variation = random.Random(f"{settings.seed}-variation-{rank}")
    began = time.monotonic()
    step, progress = 0, 0.0
    network.train()
    while progress < 1:
        for items in data.batches(order, rank, settings.processes, settings.batch_frames):
            frame_weight = max(0.0, 1 - progress / _FRAME_LOSS_UNTIL)
            masked = progress > _FRAME_LOSS_UNTIL and variation.random() < 0.6
            total, parts = loss(network, data.batch(items, variation, masked), frame_weight)
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            # The processes agree on the time, and with it on the learning rate and the end.
            progress = _average(network, (time.monotonic() - began) / 60 / settings.minutes)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            rate = settings.learning_rate * learning_rate_factor(step, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            step += 1
            if leader:
                leader.after_step(step, progress, rate, parts)
            if progress >= 1:
                break
    if leader:
        leader.finish(step)
    dist.destroy_process_group()


def learning_rate_factor(step: int, progress: float) -> float:
    """Linear warm-up, then a half cosine over the time budget to 1 %."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.99 * cosine + 0.01)


def _parameter_groups(network: SenseVoiceNetwork) -> list[dict[str, object]]:
    """Weight decay on matrices only."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]


def _average(network: SenseVoiceNetwork, value: float) -> float:
    """Average the gradients, and ``value``, over the processes; returns the averaged value."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([value])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat[:-1], [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return float(flat[-1])


class _Leader:
    """What the first process does besides training: report, evaluate, save."""

    def __init__(
        self,
        settings: Settings,
        processor: SentencePieceProcessor,
        data: TrainingSet,
        network: SenseVoiceNetwork,
    ) -> None:
        self._settings, self._network = settings, network
        self._dev = DevSet(settings.corpus / "dev", processor, data)
        self._curve = (settings.output / "training.jsonl").open("w", encoding="utf-8")
        self._sums: dict[str, float] = {}
        self._began = time.monotonic()
        self._evaluations = 0
        data.cmvn.write(settings.output / "am.mvn")
        parameters = sum(parameter.numel() for parameter in network.parameters())
        self._note(
            {
                "parameters": parameters,
                "clips": len(data.items),
                "hours": round(data.hours, 2),
                "processes": settings.processes,
            }
        )

    def after_step(self, step: int, progress: float, rate: float, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if step % _REPORT_STEPS == 0:
            means = {name: round(total / _REPORT_STEPS, 4) for name, total in self._sums.items()}
            self._sums.clear()
            self._note({"step": step, "minutes": self._minutes(), **means, "rate": round(rate, 6)})
        if self._minutes() >= (self._evaluations + 1) * _MINUTES_PER_EVALUATION:
            self._evaluations += 1
            self._save_and_evaluate(step)

    def finish(self, step: int) -> None:
        self._save_and_evaluate(step)
        self._curve.close()

    def _save_and_evaluate(self, step: int) -> None:
        torch.save(self._network.state_dict(), self._settings.output / "last.pt")
        scores = {name: asdict(each) for name, each in self._dev.evaluate(self._network).items()}
        self._note({"step": step, "minutes": self._minutes(), "dev": scores})

    def _minutes(self) -> float:
        return round((time.monotonic() - self._began) / 60, 2)

    def _note(self, row: dict[str, object]) -> None:
        line = json.dumps(row)
        self._curve.write(line + "\n")
        self._curve.flush()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class DevSet:
    """The held-out clips watched during training; the language query is always ``auto``."""

    def __init__(
        self, directory: Path, processor: SentencePieceProcessor, data: TrainingSet
    ) -> None:
        self._processor = processor
        with (directory / "manifest.jsonl").open(encoding="utf-8") as manifest:
            rows = [json.loads(line) for line in manifest]
        self._references = [
            Heard(row["text"], row["language"], row["emotion"], row["event"]) for row in rows
        ]
        self._features = []
        for row in rows:
            samples, _ = soundfile.read(directory / row["audio"], dtype="float32")
            self._features.append(data.cmvn.stacked(log_mel(samples).astype("float32")))

    def evaluate(self, network: SenseVoiceNetwork) -> dict[str, Scores]:
        network.eval()
        with torch.inference_mode():
            hypotheses = [self._heard(network, features) for features in self._features]
        network.train()
        return by_language(self._references, hypotheses)

    def _heard(self, network: SenseVoiceNetwork, features: Tensor) -> Heard:
        logits = network(
            features[None],
            torch.tensor([len(features)]),
            torch.tensor([LANGUAGE_QUERIES["auto"]]),
            torch.tensor([TEXTNORM_QUERIES["woitn"]]),
        )[0]
        path = torch.unique_consecutive(logits[4:].argmax(dim=-1)).tolist()
        language, _, event = (
            self._processor.id_to_piece(int(each)).strip("<|>")
            for each in logits[:3].argmax(dim=-1)
        )
        moods = [self._processor.piece_to_id(f"<|{emotion}|>") for emotion in EMOTIONS]
        emotion = EMOTIONS[int(logits[1, moods].argmax())]
        text = self._processor.decode([token for token in path if token > 2])
        return Heard(text, language, emotion, event)
