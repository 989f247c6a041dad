"""Hard negatives share a prefix with their positive: tokens and time saved by encoding a tree of tokens.

python -m dataset_scripts.sample --output DIR --train 64 --test 16
python -m benchmarks.prefix_sharing DIR/train

Compares forward and backward of the text encoder of ViT-B/16 over packed texts, as trained, with the same over the tree,
with attention by gathering and by a mask (prefix_tree.py). Features must be equal first. The ways take turns, and what is
measured is CPU time, so that what else the machine does changes little.
"""

import argparse
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch.testing import assert_close
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from benchmarks.measure import median, save, table
from benchmarks.prefix_tree import ATTENTION, build_tree, pool_tree
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor, PackedTexts
from training.architectures import architecture
from training.collator import FGCLIPCollator
from training.data import load_records
from training.scratch import texts_of
from training.tokenizer import train_tokenizer


def packed_texts(root: str, images: int, tokenizer: str | None) -> PackedTexts:
    """The texts of the first `images` records, as the collator packs them in stage 2."""
    records = load_records([root])
    vocabulary = CLIPTokenizer.from_pretrained(tokenizer) if tokenizer else train_tokenizer(texts_of(records), 2000)
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size={"height": 32, "width": 32}), vocabulary)
    batch = FGCLIPCollator(processor)([records[index] for index in range(min(images, len(records)))])
    return batch["packed_texts"]


def measure(packed: PackedTexts, steps: int) -> dict[str, Any]:
    torch.manual_seed(0)
    config = architecture("b16")
    model = FGCLIPModel(config).text_model.train()
    begin = process_time()
    tree = build_tree(packed, families=True)
    built = process_time() - begin
    ways = {"packed": lambda: model.pool_packed(packed)}
    ways |= {way: lambda way=way: pool_tree(model, packed, tree, way) for way in ATTENTION}
    with torch.no_grad():
        expected = model.pool_packed(packed)
        for way in ATTENTION:
            assert_close(ways[way](), expected, rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1 + steps):
        for way, pool in ways.items():
            begin = process_time()
            pool().square().sum().backward()
            model.zero_grad()
            if number:
                seconds[way].append(process_time() - begin)
    tokens, nodes = packed["input_ids"].numel(), tree.input_ids.numel()
    return {
        "texts": len(packed["restore"]),
        "tokens": tokens,
        "nodes": nodes,
        "saved": 1 - nodes / tokens,
        "seconds": seconds,
        "seconds_to_build_tree": built,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", help="folders in FineHARD's published layout")
    parser.add_argument("--images", type=int, default=8, help="of the batch that is timed")
    parser.add_argument("--count-images", type=int, default=512, help="of the batch whose tokens are counted")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not")
    parser.add_argument("--tokenizer", help="folder of CLIP's tokenizer; by default one is trained on the texts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results, rows = {}, []
    for root in arguments.roots:
        large = packed_texts(root, arguments.count_images, arguments.tokenizer)
        counted = build_tree(large).input_ids.numel()
        measured = measure(packed_texts(root, arguments.images, arguments.tokenizer), arguments.steps)
        name = "/".join(Path(root).parts[-2:])
        results[name] = {**measured, "large_batch": {"tokens": large["input_ids"].numel(), "nodes": counted}}
        fastest = {way: median(values) for way, values in measured["seconds"].items()}
        rows.append(
            {
                "data": name,
                "texts": measured["texts"],
                "tokens": measured["tokens"],
                "nodes": measured["nodes"],
                "saved": f"{measured['saved']:.1%}",
                f"saved of {arguments.count_images}": f"{1 - counted / large['input_ids'].numel():.1%}",
                **{f"{way} s": f"{value:.2f}" for way, value in fastest.items()},
                "speed-up": " / ".join(f"{fastest['packed'] / fastest[way]:.2f}" for way in ATTENTION),
            }
        )
    print(table(rows))
    save(arguments.output, {"data": results})


if __name__ == "__main__":
    main()
