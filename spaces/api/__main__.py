"""An embedding service: texts, images, regions and similarity maps over HTTP.

python -m spaces.api --model outputs/quickstart/stage2

Answers OpenAI's /v1/embeddings, /v1/regions and /v1/similarity-maps; /docs shows all. Items of different requests go to the model
together (Ray Serve). On a cluster, start Ray on each machine and pass its --address.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from pathlib import Path

from fgclip.command_line import Parser, run_command
from modeling_fgclip.extras import missing_extra

from .limits import KEYS_VARIABLE, Keys, Limits


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        import ray

        from .deployment import start
    except ImportError as error:
        raise ValueError(missing_extra(f"The service needs Ray Serve ({error})", "serve")) from None
    names = [field.name for field in dataclasses.fields(Limits)]
    limits = Limits(**{name: getattr(options, name) for name in names})
    keys = Keys.read(options.api_key_file)
    ray.init(address=options.address, log_to_driver=True, include_dashboard=False, logging_level="WARNING")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # `docker stop`
    try:
        start(
            options.model,
            options.host,
            options.port,
            options.replicas,
            options.device,
            limits,
            keys,
            options.batch,
            options.threads,
        )
        secret = "with a key" if keys.keys else "without a key; set one by --api_key_file before others can reach it"
        where = f"http://{options.host}:{options.port}"
        print(f"Serving {options.model} on {where} ({secret}); its pages: /docs. Ctrl-C ends it.", flush=True)
        signal.pause()  # Ray's own processes answer; this one only waits to end them
    finally:
        ray.shutdown()


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint: folder or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu", help="cpu, cuda … (default: cpu)")
    parser.add_argument("--replicas", type=int, default=1, help="copies of the model, one a GPU (default: 1)")
    parser.add_argument(
        "--batch", type=int, default=32, help="items a batch at most; 1 turns batching off (default: 32)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of torch on a CPU (default: all cores)")
    parser.add_argument("--address", help="of a Ray cluster (default: this machine alone)")
    parser.add_argument("--api_key_file", type=Path, help=f"one key a line; or the variable {KEYS_VARIABLE}")
    group = parser.add_argument_group("limits of a request")
    for field in dataclasses.fields(Limits):
        if field.type == "bool":
            group.add_argument(f"--{field.name}", action="store_true", help="let URLs name this machine's network")
        else:
            kind = float if field.type == "float" else int
            group.add_argument(
                f"--{field.name}", type=kind, default=field.default, help=f"(default: {field.default:,})"
            )
    return parser


if __name__ == "__main__":
    run_command(main)
