"""Finds the objects of a list of class names in images: boxes drawn on pictures, and COCO results.

python -m eval.detection predict IMAGES --detector DIR --vocabulary names.txt --output OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_scripts.atomic import write_json
from dataset_scripts.paths import image_files
from eval.detection.drawing import DRAWN_FROM, draw
from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    # Heavy, so not before the command line is known to be right.
    from eval.detection.requirements import require_torchvision

    require_torchvision()
    from eval.adapters import load_adapter
    from eval.detection.checkpoint import load_detector
    from eval.detection.predict import coco_results, predict
    from eval.detection.vocabulary import read_names
    from eval.images import ImageFile

    names = read_names(options.vocabulary) if options.vocabulary else None
    paths = [options.images] if options.images.is_file() else image_files(options.images)
    adapter = load_adapter(options.model) if options.model else None
    detector = load_detector(options.detector, names, adapter).to(options.device)
    names = list(detector.roi_heads.vocabulary.names)
    results, root = [], options.images if options.images.is_dir() else options.images.parent
    images = [ImageFile(path) for path in paths]
    for number, (path, found) in enumerate(zip(paths, predict(detector, images, options.batch_size), strict=True), 1):
        results += coco_results(found, number, range(1, len(names) + 1))
        if not options.no_pictures:
            target = options.output / "pictures" / path.relative_to(root).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            draw(ImageFile(path).open(), found, names, options.threshold).save(target)
    write_json(options.output / "results.json", results)
    listed = [{"id": n, "file_name": path.relative_to(root).as_posix()} for n, path in enumerate(paths, 1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    write_json(options.output / "images.json", {"images": listed, "categories": categories})
    shown = sum(result["score"] >= options.threshold for result in results)
    print(
        f"{len(paths)} images, {len(results)} boxes, {shown} of them at {options.threshold} or above: {options.output}"
    )


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("predict", help="boxes of named classes in one's own images")
    one.add_argument("images", type=Path, help="an image or a folder of images")
    one.add_argument("--detector", type=Path, required=True, help="output folder of training/detection/train.py")
    one.add_argument("--vocabulary", type=Path, help="text file, one class name a line (default: the trained classes)")
    one.add_argument("--model", help="the encoder (default: the checkpoint that the detector names)")
    one.add_argument("--output", type=Path, required=True, help="folder for results.json, images.json and pictures/")
    one.add_argument(
        "--threshold", type=float, default=DRAWN_FROM, help=f"score from which a box is drawn (default: {DRAWN_FROM})"
    )
    one.add_argument("--batch_size", type=int, default=1, help="images a batch (default: 1)")
    one.add_argument("--device", default="cpu", help="cpu, cuda … (default: cpu)")
    one.add_argument("--no_pictures", action="store_true", help="write the results alone")
    return parser


if __name__ == "__main__":
    run_command(main)
