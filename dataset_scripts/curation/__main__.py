"""Plain images in, FineHARD records out: one command for the whole pipeline, resumable at any point.

    python -m dataset_scripts.curation --recipe RECIPE.yaml --input IMAGES --output FOLDER

--recipe takes a file, or the name of one in dataset_scripts/curation/recipes. The input is a folder of images (with alt
text in NAME.txt), parquet files, WebDataset tars, a table, a data set on the Hub, a folder in FineHARD's published layout,
or of any other kind that own_data reads (`input.kind` and `input.options` of the recipe).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_scripts.formats.files import named_file
from fgclip.command_line import Parser, run_command

from .engine import ENGINES
from .steps import STEPS

RECIPES = Path(__file__).with_name("recipes")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", required=True, help=f"a YAML file, or one of: {known}")
    parser.add_argument("--input", required=True, help="folder, file or owner/name")
    parser.add_argument("--output", required=True, help="folder for the work, the records and the report")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="default: local")
    parser.add_argument(
        "--workers", type=int, help="processes of steps that the recipe gives no number; default: cores"
    )
    parser.add_argument("--steps", help="only these of the recipe's steps, such as expressions,negatives")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="over the recipe: negatives.count=5 negatives.rounds=1",
    )
    parser.add_argument("--redo", help="do this step and the following anew")
    parser.add_argument("--retry-failed", action="store_true", help="ask again what an endpoint did not answer")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    from .engine.pipeline import curate, describe
    from .engine.recipe import load_recipe

    recipe = load_recipe(named_file(options.recipe, RECIPES, "--recipe"), options.set)
    if options.steps:
        chosen = options.steps.split(",")
        missing = [name for name in chosen if name not in recipe.steps]
        if missing:
            raise ValueError(
                f"--steps names {missing}; the recipe has {', '.join(recipe.steps)} of {', '.join(STEPS)}."
            )
        recipe.steps = {name: settings for name, settings in recipe.steps.items() if name in chosen}
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers is {options.workers}; it must be 1 or more.")
    if options.dry_run:
        print(describe(recipe, options.input, options.output))
        return
    report = curate(
        recipe,
        options.input,
        options.output,
        engine=options.engine,
        workers=options.workers,
        redo=options.redo,
        retry_failed=options.retry_failed,
    )
    print(summary(report, options.output))


def summary(report: dict, output: str) -> str:
    """The report as a table, with the failures of each stage under it."""
    lines = [f"{'stage':12} {'records':>9} {'rec/s a worker':>15}  result"]
    for name, stage in report["stages"].items():
        counts = stage.get("counts", {})
        shown = ", ".join(
            f"{number:,} {what}"
            for what, number in counts.items()
            if number and not what.startswith(("checked by", "passed by"))
        )
        rate = stage["records_per_worker_second"]
        lines.append(f"{name:12} {stage['records']:>9,} {rate if rate is not None else '-':>15}  {shown}")
        lines += [f"{'':12} {number:>9,} × {reason}" for reason, number in stage["failures"].items()]
        for source in sorted(key.removeprefix("checked by ") for key in counts if key.startswith("checked by ")):
            share = counts.get(f"passed by {source}", 0) / max(1, counts[f"checked by {source}"])
            lines.append(f"{'':12} by {source}: {share:.1%} of those checked pass")
        if "usage" in stage:
            usage = stage["usage"]
            lines.append(
                f"{'':12} {usage['requests']:,} requests ({usage['reused']:,} from journals), {usage['retries']:,} retries, "
                f"{usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens, cost {usage['cost']:.4f}"
            )
            rounds = sorted(key.removesuffix(": requests") for key in usage if key.endswith(": requests"))
            lines += [
                f"{'':12} {r}: {usage[f'{r}: kept'] / usage[f'{r}: requests']:.2f} usable a request of {usage[f'{r}: requests']:,}"
                for r in rounds
            ]
    for name, bias in report.get("text_bias", {}).items():
        if isinstance(bias, str):
            lines.append(f"text-only control {name}: {bias}")
        else:
            low, high = bias["top1_interval"]
            lines.append(
                f"text-only control, {name}: top-1 {bias['top1']:.1%} ({low:.1%} to {high:.1%}; chance {bias['chance']:.1%}), "
                f"AUC {bias['auc']:.3f}, {bias['rows']:,} regions"
            )
    lines.append(f"records: {Path(output) / 'records'}   report: {Path(output) / 'report.json'}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
