"""The recipe of the demo model, step by step: ``python -m pipelines.demo_model <step>``.

Each step imports what it needs: scoring the shipped model asks for none of the synthesis packages.
"""

import argparse
import sys
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "predictor" / "demo_model"
HELD_OUT = {
    "test": "unseen voices",
    "unseen-engines": "unseen engines, en",
    "human-zh": "human, zh",
    "human-en": "human, en",
    "recorded-events": "recorded events",
}
"""Held-out sets of a corpus, and their names in the table of scores."""

DEV_PER_LANGUAGE, DEV_PER_EVENT = 24, 5
TEST_PER_LANGUAGE, TEST_PER_EVENT = 60, 13
UNSEEN_ENGINE_PER_VOICE = 20


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def build_corpus(arguments: argparse.Namespace) -> None:
    from pipelines.demo_model import corpus, recordings

    directory: Path = arguments.corpus
    seed: int = arguments.seed
    held_out = {
        "dev": corpus.held_out_plans(seed, "dev", DEV_PER_LANGUAGE, DEV_PER_EVENT),
        "test": corpus.held_out_plans(seed, "test", TEST_PER_LANGUAGE, TEST_PER_EVENT),
        "unseen-engines": corpus.unseen_engine_plans(seed, UNSEEN_ENGINE_PER_VOICE),
    }
    for name, plans in held_out.items():
        corpus.build_held_out(directory / name, plans, arguments.workers)
        say(f"{name}: {len(plans)} clips")
    if arguments.recordings:
        recordings.build(arguments.recordings, directory, seed)
    plans = corpus.training_plans(seed, arguments.per_language, arguments.per_event)
    for done in corpus.build_training(directory, plans, arguments.workers):
        say(f"train: {done} of {len(plans)} clips")


def train_model(arguments: argparse.Namespace) -> None:
    from pipelines.demo_model import train

    train.train(
        train.Settings(
            corpus=arguments.corpus,
            output=arguments.training,
            minutes=arguments.minutes,
            seed=arguments.seed,
            learning_rate=arguments.learning_rate,
            batch_frames=arguments.batch_frames,
            processes=arguments.processes,
        )
    )


def package_model(arguments: argparse.Namespace) -> None:
    from pipelines.demo_model import package

    package.package(arguments.training, arguments.model)
    clips = package.package_evaluation(
        arguments.corpus / "test", arguments.model / "evaluation", arguments.seed
    )
    say(f"{arguments.model}: model and {clips} evaluation clips")


def evaluate_model(arguments: argparse.Namespace) -> None:
    from pipelines.demo_model.evaluate import evaluate, table, write_card
    from predictor.engine.transcribe import Engine

    engine = Engine(arguments.model)
    sets = {"shipped clips": evaluate(engine, arguments.model / "evaluation")}
    if arguments.corpus:
        for folder, name in HELD_OUT.items():
            if (arguments.corpus / folder).is_dir():
                sets[name] = evaluate(engine, arguments.corpus / folder)
    scores = table(sets)
    say(scores)
    if arguments.write_card:
        write_card(arguments.model / "README.md", scores)


def make_variant(arguments: argparse.Namespace) -> None:
    from pipelines.demo_model.variant import write_variant

    say(str(write_variant(arguments.model, arguments.variant, arguments.noise, arguments.seed)))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m pipelines.demo_model", description=__doc__)
    steps = top.add_subparsers(dest="step", required=True)

    step = steps.add_parser("corpus", help="synthesise the corpus")
    step.add_argument("corpus", type=Path)
    step.add_argument("--seed", type=int, default=20)
    step.add_argument("--per-language", type=int, default=5000, help="training clips a language")
    step.add_argument("--per-event", type=int, default=250, help="training clips an event")
    step.add_argument("--recordings", type=Path, help="unpacked Debian packages, see README.md")
    step.add_argument("--workers", type=int, default=2)
    step.set_defaults(run=build_corpus)

    step = steps.add_parser("train", help="train on a corpus for a number of minutes")
    step.add_argument("corpus", type=Path)
    step.add_argument("training", type=Path, help="directory for the results")
    step.add_argument("--minutes", type=float, default=70.0)
    step.add_argument("--seed", type=int, default=20)
    step.add_argument("--learning-rate", type=float, default=2e-3)
    step.add_argument("--batch-frames", type=int, default=600, help="60 ms frames a process")
    step.add_argument("--processes", type=int, default=2)
    step.set_defaults(run=train_model)

    step = steps.add_parser("package", help="write the model directory and its evaluation clips")
    step.add_argument("corpus", type=Path)
    step.add_argument("training", type=Path)
    step.add_argument("--model", type=Path, default=SHIPPED)
    step.add_argument("--seed", type=int, default=20)
    step.set_defaults(run=package_model)

    step = steps.add_parser(
        "evaluate", help="score a model on its clips and a corpus's held-out sets"
    )
    step.add_argument("--model", type=Path, default=SHIPPED)
    step.add_argument("--corpus", type=Path)
    step.add_argument("--write-card", action="store_true", help="needs --corpus")
    step.set_defaults(run=evaluate_model)

    step = steps.add_parser("variant", help="write the model again, with noise on its weights")
    step.add_argument("variant", type=Path, help="directory to make")
    step.add_argument("--noise", type=float, required=True, help="0.01: as good; 0.7: useless")
    step.add_argument("--model", type=Path, default=SHIPPED)
    step.add_argument("--seed", type=int, default=20)
    step.set_defaults(run=make_variant)
    return top


def main(argv: list[str] | None = None) -> None:
    commands = parser()
    arguments = commands.parse_args(argv)
    if arguments.step == "evaluate" and arguments.write_card and not arguments.corpus:
        commands.error("--write-card needs --corpus: the card holds the scores of every set")
    arguments.run(arguments)


if __name__ == "__main__":
    main()
