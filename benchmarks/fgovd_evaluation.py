"""FG-OVD rows a second: this project's evaluation against the published procedure, in one run.

    python -m benchmarks.fgovd_evaluation --annotations DIR/h_attributes_llava.jsonl --tokenizer openai/clip-vit-base-patch16

The published procedure reads one row at a time: open the image, encode it, encode its 11 captions padded to 77 tokens. It
costs the same for every row, so a few rows suffice (`--published_rows`). Weights are random and the images are made up in
the sizes of the real ones (COCO is not shipped); neither changes the work. Both must give the same scores before they
are timed. Processor seconds are given beside wall seconds, because other programs on the machine stretch the latter.
"""

import argparse
import copy
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers import logging as transformers_logging

from benchmarks.measure import save, table
from benchmarks.padded_step import take_clips_mlps
from eval.adapters import FGCLIPAdapter
from eval.embed import Embedder
from eval.scoring import gathered_scores
from eval.tasks import make_task
from eval.tasks.fgovd import FILES
from eval.tasks.matching import MatchRow, embed_matches
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.text_checks import check_vocabulary
from modeling_fgclip.threads import in_threads
from training.architectures import architecture


def make_images(rows: list[dict[str, Any]], folder: Path) -> None:
    """JPEGs of the real sizes: smooth noise, which costs about as much to decode as a photograph."""
    sizes = {row["img_path"]: (row["width"], row["height"]) for row in rows}

    def make(name: str, size: tuple[int, int], number: int) -> None:
        width, height = size
        random = np.random.default_rng(number)
        small = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)

    in_threads(make, sizes, sizes.values(), range(len(sizes)))


@torch.no_grad()
def published(
    rows: list[MatchRow], model: FGCLIPModel, text_model: CLIPModel, processor: FGCLIPProcessor, device: str
) -> np.ndarray:
    """One row at a time, as the published script does; (rows, 11) cosines, NaN where a row has fewer captions.

    The models are on the device. The text tower is transformers' CLIP with the same weights, since ours would not compute
    the padding, and the image tower's MLPs are CLIP's own.
    """
    scores = np.full((len(rows), max(len(row.texts) for row in rows)), np.nan, np.float32)
    for number, row in enumerate(rows):
        pixels = processor(images=row.image.open())["pixel_values"].to(device)
        width, height = row.size
        cells = torch.tensor(row.box / np.array([width, height, width, height]) * 14, dtype=torch.float32)
        boxes = torch.cat([torch.zeros(1), cells])[None].to(device)
        region = model.get_image_box_roi_features(pixels, boxes)
        tokens = processor.tokenizer(
            row.texts, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        )
        texts = text_model.get_text_features(input_ids=tokens["input_ids"].to(device)).pooler_output
        region, texts = (torch.nn.functional.normalize(x, dim=-1) for x in (region, texts))
        scores[number, : len(row.texts)] = (region @ texts.T)[0].cpu().numpy()
    return scores


def ours(
    task: Any, model: FGCLIPModel, processor: FGCLIPProcessor, precision: str, args: argparse.Namespace
) -> np.ndarray:
    """The evaluation's own path, from annotations to scores."""
    embedder = Embedder(
        FGCLIPAdapter(model, processor),
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        precision=precision,
        device=args.device,
    )
    matches = embed_matches(task, embedder, task.load())
    return gathered_scores(matches.regions["hard"], matches.texts, matches.candidates("hard"))


def measured(work: Callable[[], np.ndarray], rows: int) -> tuple[np.ndarray, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    scores = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return scores, {"rows": rows, "wall seconds": wall, "rows/s": rows / wall, "rows / processor second": rows / cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="h_attributes_llava.jsonl")
    parser.add_argument("--tokenizer", required=True, help="folder or Hub id of CLIP's tokenizer")
    parser.add_argument("--images", type=int, default=0, help="only the rows of so many images; 0: all 1,707")
    parser.add_argument("--published_rows", type=int, default=40)
    parser.add_argument("--batch_size", type=int, help="images a batch; default: as python -m eval")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--num_workers", type=int, help="loading processes; default: as python -m eval")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    lines = [json.loads(line) for line in args.annotations.read_text().splitlines()]
    names = list(dict.fromkeys(row["img_path"] for row in lines))
    if args.images:
        chosen = set(np.random.default_rng(0).choice(names, args.images, replace=False).tolist())
        lines = [row for row in lines if row["img_path"] in chosen]
        names = [name for name in names if name in chosen]
    torch.manual_seed(0)
    config = architecture("b16")
    model = FGCLIPModel(config).eval().to(args.device)
    clip = CLIPModel(
        CLIPConfig(
            text_config=config.text_config.to_dict(), vision_config=config.vision_config.to_dict(), projection_dim=512
        )
    ).eval()
    clip.load_state_dict({name: value for name, value in model.state_dict().items() if name in clip.state_dict()})
    clip.to(args.device)
    theirs = copy.deepcopy(model)
    take_clips_mlps(theirs)
    processor = FGCLIPProcessor(
        CLIPImageProcessorPil(size={"height": 224, "width": 224}),
        check_vocabulary(CLIPTokenizer.from_pretrained(args.tokenizer)),
    )
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / FILES["hard"]).write_text("\n".join(map(json.dumps, lines)))
        make_images(lines, root / "images")
        task = make_task("fgovd", {"data": root, "images": "images", "annotations": ".", "subsets": ("hard",)})
        rows = task.load()["hard"]
        few = rows[: args.published_rows]
        published(few[:1], theirs, clip, processor, args.device)  # warm up
        expected, slow = measured(lambda: published(few, theirs, clip, processor, args.device), len(few))
        results = {"published, float32": slow}
        for precision in ("float32", "bfloat16"):
            mine, results[f"ours, {precision}"] = measured(
                lambda p=precision: ours(task, model, processor, p, args), len(rows)
            )
            difference = float(np.abs(mine[: len(few), : expected.shape[1]] - expected)[np.isfinite(expected)].max())
            results[f"ours, {precision}"]["largest difference of a cosine"] = difference
            if difference > (1e-4 if precision == "float32" else 5e-2):
                raise RuntimeError(f"the two procedures differ by {difference} in {precision}")
    shown = []
    for name, result in results.items():
        ratios = {
            f"× published ({unit})": f"{result[key] / slow[key]:.1f}"
            for unit, key in (("wall", "rows/s"), ("processor", "rows / processor second"))
        }
        shown.append(
            {
                "way": name,
                "rows": result["rows"],
                "wall s": f"{result['wall seconds']:.1f}",
                "rows/s": f"{result['rows/s']:.2f}",
                **ratios,
            }
        )
    place = "" if args.device == "cpu" else f" beside {args.device}"
    print(f"{len(rows)} rows over {len(names)} images, ViT-B/16 at 224, {args.threads} threads{place}\n{table(shown)}")
    results = {"rows": len(rows), "images": len(names), "threads": args.threads, "results": results}
    save(args.output, results, args.device)


if __name__ == "__main__":
    main()
