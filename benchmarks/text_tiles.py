"""Attention of a batch's phrases on a GPU: a kernel for texts of any length, against several texts in a tile.

python -m benchmarks.text_tiles --texts 11264 --tokens 8 16

Forward and backward of one block's attention, 8 heads of 64, bfloat16. Both ways must give the same before they are timed.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.attention import SDPBackend
from torch.nn.attention.varlen import varlen_attn

from benchmarks.measure import median, save, table, timed
from modeling_fgclip import packed_tiles

HEADS, HEAD_DIM = 8, 64
BACKENDS = {
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "plain": SDPBackend.MATH,
}


def milliseconds(attention: Callable[[], torch.Tensor], repeats: int) -> float:
    def step() -> None:
        output = attention()
        output.backward(output.detach())

    return 1000 * median(timed(step, repeats, "cuda", warm_up=3).wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=11264, help="44 of each of 256 images")
    parser.add_argument("--tokens", type=int, nargs=2, default=(8, 16), help="the fewest and the most of a text")
    parser.add_argument("--tiles", type=int, nargs="+", default=[32, 64, 128, 256], help="sizes")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    if args.tokens[1] > min(args.tiles) // 2:
        parser.error(
            f"two texts of {args.tokens[1]} tokens do not share a tile of {min(args.tiles)}; lower --tokens or raise --tiles"
        )
    rng = random.Random(0)
    starts = np.append(0, np.cumsum(sorted(rng.randint(*args.tokens) for _ in range(args.texts))))
    tokens = int(starts[-1])
    shape = tokens, HEADS, HEAD_DIM
    states = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    offsets, longest = torch.from_numpy(starts.astype(np.int32)).cuda(), int(np.diff(starts).max())

    def by_length() -> torch.Tensor:
        return varlen_attn(*states, offsets, offsets, longest, longest, window_size=(-1, 0))

    expected = by_length().detach().float()
    rows = [{"way": "texts of any length", "slots": tokens, "ms": f"{milliseconds(by_length, args.repeats):.2f}"}]
    for size in args.tiles:
        with patch.multiple(packed_tiles, TILE=size, SHORT=size // 2):
            slots, places, texts = packed_tiles.lay_out(starts)
            mask = packed_tiles.tile_mask(torch.from_numpy(texts).cuda(), torch.bfloat16)
            slots, places = torch.from_numpy(slots).cuda(), torch.from_numpy(places).cuda()
            laid_out = [state.detach()[slots].requires_grad_() for state in states]
            for name, backend in BACKENDS.items():
                with patch.object(packed_tiles, "BACKENDS", [backend]):

                    def tiled(laid_out: list[torch.Tensor] = laid_out, mask: torch.Tensor = mask) -> torch.Tensor:
                        return packed_tiles.tile_attention(*laid_out, mask, HEAD_DIM**-0.5, 0.0)

                    torch.testing.assert_close(tiled().detach().float()[places], expected, rtol=2e-2, atol=2e-2)
                    row = {"way": f"tiles of {size}, {name}", "slots": len(slots)}
                    rows.append(row | {"ms": f"{milliseconds(tiled, args.repeats):.2f}"})
    print(table(rows))
    save(args.output, {"rows": rows}, "cuda")


if __name__ == "__main__":
    main()
