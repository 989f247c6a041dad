"""What a training run will take: work, memory, communication, data, time and money.

python -m training.plan --stage 1 --model b16 --devices 64 --device H100
python -m training.plan --stage 2 --model l14-336 --devices 8 --device H100 --images-per-second 300 --price 2.5
python -m training.plan --stage 2 --model fgclip2-base --devices 8 --device H100 --checkpointing blocks --patches 576

Counted are the parts described in docs/scale.md. Hours come from the measured images a second of a device where
they are given, and otherwise from a share of its data sheet's FLOPs (--mfu), as it was measured on one H100.
"""

import argparse
import json
from collections.abc import Sequence

from fgclip.command_line import Parser, run_command

from .architectures import ARCHITECTURES, FGCLIP2_ARCHITECTURES
from .planning.communication import CHECKPOINTING, STRATEGIES
from .planning.devices import DEVICES, MFU


def _format(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def main(given: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=int, choices=(1, 2), required=True)
    parser.add_argument("--model", choices=(*ARCHITECTURES, *FGCLIP2_ARCHITECTURES), required=True)
    parser.add_argument("--devices", type=int, required=True, help="number of accelerators")
    parser.add_argument("--device", required=True, help=f"one of {', '.join(DEVICES)}")
    parser.add_argument("--strategy", choices=STRATEGIES, default="ddp")
    parser.add_argument("--batch", type=int, help="images a device (default: published, 384 and 512)")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="none", help="gradient checkpointing")
    parser.add_argument("--patches", type=int, help="of an image, for FG-CLIP 2 (default: 1024, the largest budget)")
    parser.add_argument("--images-per-second", type=float, help="measured, of one device")
    parser.add_argument(
        "--mfu", type=float, default=MFU, help=f"where no rate was measured (default: {MFU}, of an H100)"
    )
    parser.add_argument("--price", type=float, help="of a device hour, in any currency")
    parser.add_argument("--image-bytes", type=float, default=60e3, help="of a stored image (default: 60000)")
    parser.add_argument("--images-a-core", type=float, help="measured by benchmarks/input_pipeline.py")
    parser.add_argument("--shard-records", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = vars(parser.parse_args(given))
    as_json = arguments.pop("json")
    from .planning.plan import Plan

    summary = Plan(**arguments).summary()
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    for topic, values in summary.items():
        print(topic)
        for name, value in values.items():
            print(f"  {name:34} {_format(value):>14}")


if __name__ == "__main__":
    run_command(main)
