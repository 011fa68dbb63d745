"""``python -m predictor serve | transcribe | prepare``."""

import argparse
import os
import signal
import sys

# NumPy multiplies only small matrices here. OpenBLAS's threads, which it starts when it is imported, would
# spin on the cores that the network needs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main(arguments: list[str]) -> int:
    # The flags of `serve` are the fields of its Settings, which parse them themselves.
    if arguments[:1] == ["serve"]:
        # Until the server takes its signals itself. The kernel keeps SIGTERM from a container's first
        # process that has no handler, and a pod would be killed only when its grace period is over.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        from predictor.server.settings import Settings

        settings = Settings.from_command_line(arguments[1:])
        # After the flags are known to be right: it brings kserve, which takes seconds.
        from predictor.server.app import serve

        serve(settings)
        return 0

    from predictor import cli

    parser = argparse.ArgumentParser(prog="python -m predictor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve a model over KServe's protocols (serve --help)")
    cli.add_transcribe(commands.add_parser("transcribe", help="print transcripts of files"))
    cli.add_prepare(commands.add_parser("prepare", help="make a model directory ready to serve"))
    parsed = parser.parse_args(arguments)
    return cli.transcribe(parsed) if parsed.command == "transcribe" else cli.run_prepare(parsed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
