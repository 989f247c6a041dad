"""Data-parallel scaling: images a second of 1 and of 2 processes, each with a batch of its own.

python -m benchmarks.process_scaling --processes 1 2 --batch-size 4
torchrun --nproc-per-node 8 -m benchmarks.process_scaling --device cuda --model l14-336 --batch-size 256

Each process has a batch of `--batch-size` images, one thread on a CPU, and one device under torchrun. The step is
that of stage 2 with negatives from all processes. Batches differ from process to process as in training, so that the
slowest is waited for.
"""

import argparse
import json
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from accelerate.utils import send_to_device
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import median, save, table, timed
from benchmarks.stage2_batch import CASES, make_batch
from benchmarks.stage2_step import forward, objective_of
from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from training.architectures import ARCHITECTURES, architecture
from training.optimizer import parameter_groups

# The model of the quickstart, for a short run.
TINY = Path(__file__).parents[1] / "training" / "recipes" / "tiny_model.yaml"


def configuration(model: str) -> FGCLIPConfig:
    if model != "tiny":
        return architecture(model)
    settings = yaml.safe_load(TINY.read_text())
    vocabulary = settings.pop("vocab_size")
    ids = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    settings["text_config"] |= {"vocab_size": vocabulary, **ids}
    return FGCLIPConfig(**settings)


def measure(arguments: argparse.Namespace, rank: int, processes: int) -> list[float]:
    """Seconds of each step on this process, in an initialized process group or alone."""
    device = arguments.device
    torch.manual_seed(0)
    model: torch.nn.Module = FGCLIPModel(configuration(arguments.model)).to(device).train()
    batch = make_batch(model.config, arguments.batch_size, arguments.case, seed=rank)
    batch = send_to_device(batch, device)
    objective = objective_of(arguments.case)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.001, 1e-6), fused=True)
    if processes > 1:
        model = DistributedDataParallel(model)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext():
            output = forward(model, batch)
        objective.total(objective.losses(output, batch)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step, arguments.steps, device).wall


def _worker(rank: int, processes: int, arguments: argparse.Namespace, folder: str) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    seconds = measure(arguments, rank, processes)
    Path(folder, f"{rank}.json").write_text(json.dumps(seconds))
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


def run(arguments: argparse.Namespace, processes: int) -> float:
    """Images a second of so many processes on this machine's CPU."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, (processes, arguments, folder), nprocs=processes)
        seconds = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(processes)]
    return processes * arguments.batch_size / max(map(median, seconds))


def run_under_torchrun(arguments: argparse.Namespace) -> None:
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    seconds = torch.tensor([median(measure(arguments, rank, processes))], device="cuda")
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    if rank == 0:
        print(f"{processes} processes: {processes * arguments.batch_size / seconds.item():.4g} images/s")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", choices=("tiny", *ARCHITECTURES), default="b16")
    parser.add_argument("--case", choices=CASES, default="typical")
    parser.add_argument("--batch-size", type=int, default=4, help="of each process")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not; the median counts")
    parser.add_argument("--rounds", type=int, default=1, help="times all numbers of processes are run in turn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        if "RANK" not in os.environ:
            parser.error("--device cuda needs torchrun: torchrun --nproc-per-node N -m benchmarks.process_scaling …")
        run_under_torchrun(arguments)
        return
    rates: dict[int, list[float]] = {processes: [] for processes in arguments.processes}
    for _ in range(arguments.rounds):
        for processes in rates:
            rates[processes].append(run(arguments, processes))
    first = arguments.processes[0]
    base = median(rates[first]) / first
    rows = [
        {
            "processes": processes,
            "images/s": f"{median(values):.3g}",
            "efficiency": f"{median(values) / processes / base:.0%}",
        }
        for processes, values in rates.items()
    ]
    print(table(rows))
    save(arguments.output, {"images_per_second": rates})


if __name__ == "__main__":
    main()
