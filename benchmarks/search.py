"""Images a second of `python -m eval.search index`: reading, decoding, squashing, embedding, writing, indexing.

    python -m benchmarks.search --images 256 --threads 1 --output benchmarks/results/search_b16_cpu.json

By the clock, and by the CPU time of one core, which other work on the machine hardly changes. Random weights of ViT-B/16's
shape: speed does not depend on what a model has learned.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from benchmarks.measure import hardware, versions
from eval.adapters.fgclip import FGCLIPAdapter
from eval.embed import Embedder
from eval.search.build import build
from eval.search.index import SearchIndex
from eval.search.source import open_collection
from modeling_fgclip import FGCLIPConfig, FGCLIPModel, FGCLIPProcessor
from training.data.tokenizer import train_tokenizer

SHAPES = {
    "B/16 at 224": {
        "projection_dim": 512,
        "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        "vision_config": {"image_size": 224, "patch_size": 16},
    }
}


def adapter_of(shape: str) -> FGCLIPAdapter:
    tokenizer = train_tokenizer(["a light blue mug on a wooden table"] * 2, vocab_size=600)
    settings = SHAPES[shape]
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**settings["text_config"], **ids, "vocab_size": len(tokenizer)}
    defaults = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {**defaults, **settings["vision_config"]}
    config = FGCLIPConfig(projection_dim=settings["projection_dim"], text_config=text, vision_config=vision)
    side = vision["image_size"]
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size={"height": side, "width": side}), tokenizer)
    return FGCLIPAdapter(FGCLIPModel(config), processor, name=shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="photo-like JPEG files of 640 x 480 pixels")
    parser.add_argument("--batch_size", type=int, help="images a batch; default: as python -m eval.search")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        for number in range(args.images):
            noise = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
            image = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
            image.save(f"{folder}/{number:05d}.jpg", quality=90)
        collection = open_collection(folder)
        for shape in SHAPES:
            adapter = adapter_of(shape)
            for precision in args.precision:
                embedder = Embedder(
                    adapter, args.batch_size, precision=precision, distributed=False, allow_missing=True
                )
                target = Path(folder) / f"index-{len(results)}"
                before = os.times()
                summary = build(collection, embedder, target)
                # Of this process and of the loading workers that have ended.
                cpu = sum(os.times()[:4]) - sum(before[:4])
                index = SearchIndex(target, embedder)
                started = time.perf_counter()
                index.search(np.eye(1, 512, dtype=np.float32), 10)
                results.append(
                    {
                        "model": shape,
                        "precision": precision,
                        "images_per_second": round(summary.embedded_now / summary.seconds, 2),
                        "images_per_core_second": round(summary.embedded_now / cpu, 2),
                        "query_milliseconds": round(1000 * (time.perf_counter() - started), 2),
                    }
                )
                print(results[-1], flush=True)
    if args.output:
        settings = {"images": args.images, "batch_size": embedder.batch_size, "threads": torch.get_num_threads()}
        content = {"settings": settings, "hardware": hardware(), "versions": versions(), "results": results}
        args.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
