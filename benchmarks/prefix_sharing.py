"""What texts begin with alike computed once: tokens and time saved in the text encoder.

python -m dataset_scripts.sample --output DIR --train 512 --test 16
python -m benchmarks.prefix_sharing DIR/train

Counts the distinct tokens after distinct beginnings among the texts of stage-2 batches, and times forward and backward of
the text encoder of ViT-B/16 over packed texts with and without sharing. Features must be equal first. The two take turns.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.testing import assert_close
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from benchmarks.measure import median, save, table, timed
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor, PackedTexts, pack_texts
from modeling_fgclip.text_checks import check_vocabulary
from training.architectures import architecture
from training.data.collator import FGCLIPCollator, TextTable
from training.data.sources import load_records
from training.data.tokenizer import train_tokenizer
from training.random_checkpoint import texts_of


def packed_both_ways(root: str, images: int, tokenizer: str | None) -> dict[str, PackedTexts]:
    """The texts of the first `images` records, as stage 2 has them, packed without and with shared prefixes."""
    records = load_records([root])
    vocabulary = (
        check_vocabulary(CLIPTokenizer.from_pretrained(tokenizer))
        if tokenizer
        else train_tokenizer(texts_of(records), 2000)
    )
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size={"height": 32, "width": 32}), vocabulary)
    collator = _KeepsTexts(processor)
    collator([records[index] for index in range(min(images, len(records)))])
    rows = list(collator.texts.rows)
    token_ids = [processor.encode_texts([text], is_long)[0] for text, is_long in rows]
    is_long = [is_long for _, is_long in rows]
    return {name: pack_texts(token_ids, is_long, share) for name, share in (("packed", False), ("shared", True))}


class _KeepsTexts(FGCLIPCollator):
    def _pack(self, texts: TextTable, share_prefixes: bool) -> PackedTexts:
        self.texts = texts
        return super()._pack(texts, share_prefixes)


def measure(packed: dict[str, PackedTexts], steps: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = FGCLIPModel(architecture("b16")).text_model.train()
    with torch.no_grad():
        assert_close(model.pool_packed(packed["shared"]), model.pool_packed(packed["packed"]), rtol=1e-4, atol=1e-4)

    def step(texts: PackedTexts) -> None:
        model.pool_packed(texts).square().sum().backward()
        model.zero_grad()

    seconds: dict[str, list[float]] = {name: [] for name in packed}
    for number in range(1 + steps):
        for name, texts in packed.items():
            (took,) = timed(lambda texts=texts: step(texts), 1, warm_up=0).wall
            if number:
                seconds[name].append(took)
    return {"texts": len(packed["packed"]["restore"]), **_counts(packed), "seconds": seconds}


def _counts(packed: dict[str, PackedTexts]) -> dict[str, int]:
    return {"tokens": len(packed["packed"]["input_ids"]), "nodes": len(packed["shared"]["input_ids"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", help="folders in FineHARD's published layout")
    parser.add_argument("--images", type=int, default=8, help="of the batch that is timed")
    parser.add_argument("--count-images", type=int, default=256, help="of the batch whose tokens are counted")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not; the median counts")
    parser.add_argument("--tokenizer", help="folder of CLIP's tokenizer; by default one is trained on the texts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results, rows = {}, []
    for root in arguments.roots:
        large = _counts(packed_both_ways(root, arguments.count_images, arguments.tokenizer))
        measured = measure(packed_both_ways(root, arguments.images, arguments.tokenizer), arguments.steps)
        name = "/".join(Path(root).parts[-2:])
        results[name] = {**measured, "large_batch": large}
        seconds = {way: median(values) for way, values in measured["seconds"].items()}
        rows.append(
            {
                "data": name,
                "tokens": measured["tokens"],
                "saved": f"{1 - measured['nodes'] / measured['tokens']:.0%}",
                f"saved of {arguments.count_images} images": f"{1 - large['nodes'] / large['tokens']:.0%}",
                **{f"{way} s": f"{value:.2f}" for way, value in seconds.items()},
                "times as fast": f"{seconds['packed'] / seconds['shared']:.2f}",
            }
        )
    print(table(rows))
    save(arguments.output, {"data": results})


if __name__ == "__main__":
    main()
