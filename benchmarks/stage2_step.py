"""One optimization step of stage 2: images a second and peak memory, texts padded as published, packed, and shared.

python -m benchmarks.stage2_step --model b16 --case hard --batch-size 4
python -m benchmarks.stage2_step --device cuda --model l14-336 --case hard --batch-size 256 --steps 10

Shared are packed texts whose common beginnings are computed once, as the collator gives them in stage 2. All ways must
give one loss before they are timed; each is then timed in a process of its own. A variant that does not fit in memory is
reported as such.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device

from benchmarks.measure import OutOfMemory, median, peak_memory, run_fresh, save, table, timed
from benchmarks.padded_step import pad_batch, padded_forward, take_clips_mlps
from benchmarks.stage2_batch import CASES, make_batch
from modeling_fgclip import FGCLIPConfig, FGCLIPModel, FGCLIPOutput
from training.architectures import ARCHITECTURES, architecture
from training.efficiency.activation_checkpointing import checkpoint_selectively
from training.efficiency.compiling import compile_encoders
from training.efficiency.optimizer_in_backward import OptimizerInBackward
from training.objective import Objective, parse_losses
from training.optimizer import parameter_groups
from training.options import STAGE1_LOSSES, STAGE2_LOSSES
from training.planning.devices import find_device
from training.planning.flops import batch_flops

TEXTS = ("padded", "packed", "shared")
CHECKPOINTING = ("none", "selective", "blocks")
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


def objective_of(case: str) -> Objective:
    return Objective(parse_losses(STAGE1_LOSSES)) if case == "stage1" else Objective(parse_losses(STAGE2_LOSSES))


def prepare(config: FGCLIPConfig, arguments: argparse.Namespace, texts: str) -> dict[str, Any]:
    batch = make_batch(config, arguments.batch_size, arguments.case, arguments.seed, share_prefixes=texts == "shared")
    batch = pad_batch(config, batch) if texts == "padded" else batch
    return send_to_device(batch, arguments.device)


def forward(model: FGCLIPModel, batch: dict[str, Any]) -> FGCLIPOutput:
    if "padded_texts" in batch:
        return padded_forward(model, batch)
    return model(**{name: batch[name] for name in ("pixel_values", "packed_texts", "boxes") if name in batch})


def build_model(arguments: argparse.Namespace, texts: str | None = None) -> FGCLIPModel:
    torch.manual_seed(arguments.seed)
    with torch.device(arguments.device):
        model = FGCLIPModel(architecture(arguments.model)).train()
    if arguments.attn_implementation:
        model.set_attn_implementation(arguments.attn_implementation)
    if texts == "padded":
        take_clips_mlps(model)
    checkpointing = arguments.padded_checkpointing if texts == "padded" else arguments.checkpointing
    if checkpointing == "blocks":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif checkpointing == "selective":
        checkpoint_selectively(model)
    if arguments.compile and texts != "padded":
        compile_encoders(model)
    return model


def loss_function(model: FGCLIPModel, batch: dict[str, Any], arguments: argparse.Namespace) -> Callable:
    objective = objective_of(arguments.case)
    half = arguments.dtype == "bfloat16"

    def loss() -> torch.Tensor:
        with torch.autocast(arguments.device, torch.bfloat16) if half else nullcontext():
            output = forward(model, batch)
        return objective.total(objective.losses(output, batch))

    return loss


def run_variant(arguments: argparse.Namespace, texts: str) -> dict[str, Any]:
    """Times one variant in this process."""
    model = build_model(arguments, texts)
    batch = prepare(model.config, arguments, texts)
    loss = loss_function(model, batch, arguments)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.001, 1e-6), betas=(0.9, 0.98), fused=True)

    in_backward = OptimizerInBackward(optimizer) if arguments.optimizer_in_backward and texts != "padded" else None

    def step() -> None:
        if in_backward:
            in_backward.begin()
        loss().backward()
        if not in_backward:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    # The warm-up makes the optimizer's state, so that the timed steps are like all later ones.
    times = timed(step, arguments.steps, arguments.device)
    return {"seconds": times.wall, "cpu_seconds": times.cpu, "peak_gb": peak_memory(arguments.device)}


def check_losses(arguments: argparse.Namespace) -> dict[str, float]:
    """The loss of each variant, from the same weights.

    Raises:
        RuntimeError: where they differ.
    """
    losses = {}
    with torch.no_grad():
        for texts in TEXTS:
            model = build_model(arguments, texts)
            losses[texts] = loss_function(model, prepare(model.config, arguments, texts), arguments)().item()
    lowest, highest = min(losses.values()), max(losses.values())
    if highest - lowest > TOLERANCE[arguments.dtype] * abs(highest):
        raise RuntimeError(f"The losses differ: {losses}.")
    return losses


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    config = architecture(arguments.model)
    batches = {
        texts: prepare(config, argparse.Namespace(**vars(arguments) | {"device": "cpu"}), texts) for texts in TEXTS
    }
    tokens = {texts: len(batches[texts]["packed_texts"]["input_ids"]) for texts in ("packed", "shared")}
    tokens["padded"] = sum(ids.numel() for ids in batches["padded"]["padded_texts"])
    flops = batch_flops(config, batches["packed"])
    options, device = _options(arguments), arguments.device

    def fresh(work: Callable[[], dict[str, Any]], *what: str) -> dict[str, Any]:
        return run_fresh(work, "benchmarks.stage2_step", [*options, *what], device)

    results: dict[str, Any] = {"losses": fresh(lambda: check_losses(arguments), "--check")}
    print(f"equal losses: {results['losses']}", flush=True)
    rows = []
    for texts in arguments.texts:
        try:
            measured = fresh(lambda texts=texts: run_variant(arguments, texts), "--alone", texts)
        except OutOfMemory:
            rows.append({"texts": texts, "images/s": "out of memory"})
            continue
        results[texts] = measured
        seconds = median(measured["seconds"])
        rows.append(
            {
                "texts": texts,
                "text tokens an image": round(tokens[texts] / arguments.batch_size),
                "images/s": f"{arguments.batch_size / seconds:.3g}",
                "s a step": f"{seconds:.3g}",
                "CPU s a step": f"{median(measured['cpu_seconds']):.3g}",
                "peak GB": f"{measured['peak_gb']:.2f}",
                "model TFLOP/s": f"{flops / seconds / 1e12:.3g}",
                "MFU": _utilisation(arguments, flops / seconds),
            }
        )
    names = max(rows, key=len)
    print(table([{name: row.get(name, "–") for name in names} for row in rows]))
    for texts in ("packed", "shared"):
        if "padded" in results and texts in results:
            padded, other = results["padded"], results[texts]
            ratios = {
                "speed": median(padded["seconds"]) / median(other["seconds"]),
                "cpu_time": median(padded["cpu_seconds"]) / median(other["cpu_seconds"]),
                "memory": other["peak_gb"] / padded["peak_gb"],
            }
            results[f"{texts}_to_padded"] = ratios
            print(
                f"{texts}: {ratios['speed']:.2f} times the images/s ({ratios['cpu_time']:.2f} by CPU time), "
                f"{ratios['memory']:.2f} of the peak memory"
            )
    return {"settings": _settings(arguments), "model_flops_a_step": flops, **results}


def _utilisation(arguments: argparse.Namespace, flops_per_second: float) -> str:
    device = find_device(torch.cuda.get_device_name()) if arguments.device == "cuda" else None
    return f"{flops_per_second / device.bf16_flops:.1%}" if device and arguments.dtype == "bfloat16" else "–"


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        name: value for name, value in vars(arguments).items() if name not in ("output", "alone", "check", "texts")
    }


def _options(arguments: argparse.Namespace) -> list[str]:
    options = []
    for name, value in _settings(arguments).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            options += [option] if value else []
        elif value is not None:
            options += [option, str(value)]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="what to time (default: all)")
    parser.add_argument("--model", choices=ARCHITECTURES, default="b16")
    parser.add_argument("--case", choices=CASES, default="hard", help="texts an image, see stage2_batch.py")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="timed, after one that is not; the median counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), help="default: bfloat16 autocast on CUDA, else float32")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--attn-implementation", help="default: sdpa")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="none", help="of all but padded texts")
    parser.add_argument("--padded-checkpointing", choices=CHECKPOINTING, default="none", help="of padded texts")
    parser.add_argument("--optimizer-in-backward", action="store_true", help="of all but padded texts")
    parser.add_argument(
        "--compile", action="store_true", help="blocks, as --torch_compile does; of all but padded texts"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--alone", choices=TEXTS, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    arguments = _parser().parse_args()
    arguments.dtype = arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32")
    torch.set_num_threads(arguments.threads)
    if arguments.check:
        print(json.dumps(check_losses(arguments)))
    elif arguments.alone:
        print(json.dumps(run_variant(arguments, arguments.alone)))
    else:
        save(arguments.output, report(arguments), arguments.device)


if __name__ == "__main__":
    main()
