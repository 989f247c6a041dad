"""Peak memory of FG-CLIP 2's dense head at base size: a mask of keys against the published mask of queries by keys.

    python -m benchmarks.fgclip2_dense --patches 1024 2304 4096

Each way runs in a process of its own, on the CPU in float32, 1 thread; counted is what its peak lies above the memory
before the call. Both give the same numbers, which is checked.
"""

import argparse
import multiprocessing
import resource

import torch

from modeling_fgclip import FGCLIP2VisionConfig
from modeling_fgclip.naflex_vision import FGCLIP2PoolingHead

WAYS = ("published", "ours")


def published(head: FGCLIP2PoolingHead, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As the published code computes it: `nn.MultiheadAttention` with an additive (heads, patches, patches) mask."""
    patches, heads = states.shape[1], head.num_heads
    additive = torch.where(mask.bool(), 0.0, torch.finfo(states.dtype).min)[:, None, None, :]
    additive = additive.expand(-1, 1, patches, patches).repeat(1, heads, 1, 1).reshape(-1, patches, patches)
    attended = head.attention(states, states, states, attn_mask=additive)[0]
    return attended + head.mlp(head.layernorm(attended))


def peak(way: str, patches: int, results: "multiprocessing.Queue") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = FGCLIP2PoolingHead(FGCLIP2VisionConfig()).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    mask = torch.ones(1, patches, dtype=torch.long)
    mask[:, -patches // 8 :] = 0
    with torch.no_grad():
        head.dense(torch.randn(1, 16, 768), torch.ones(1, 16))  # what the first call loads is no part of it
        states = torch.randn(1, patches, 768)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = head.dense(states, mask) if way == "ours" else published(head, states, mask)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((after - before, result[:, ::97].clone().numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[1024, 2304, 4096])
    context = multiprocessing.get_context("spawn")
    print("patches  published  ours      ratio  largest difference")
    for patches in parser.parse_args().patches:
        found = []
        for way in WAYS:
            results = context.Queue()
            process = context.Process(target=peak, args=(way, patches, results))
            process.start()
            found.append(results.get())
            process.join()
        (theirs, expected), (ours, result) = found
        difference = abs(result - expected).max()
        print(
            f"{patches:7}  {theirs / 1024:6.0f} MB  {ours / 1024:5.0f} MB  {theirs / max(ours, 1):5.1f}  {difference:.1e}"
        )


if __name__ == "__main__":
    main()
