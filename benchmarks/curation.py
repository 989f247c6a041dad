"""Steps 2 and 4 of the curation pipeline on data with human phrases: quality and speed on one core.

    python -m benchmarks.curation --data FINEHARD_ROOT --output FOLDER

Runs the recipe `text`, then
- compares the expressions of the captions with the phrases that people drew boxes for (recall and precision),
- checks that every region with an attribute has its 10 negatives and that all of them pass every check,
- reports how much text alone tells, against uniformly drawn negatives, and the rates of each step by processor time,
  which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from benchmarks.measure import hardware, versions
from dataset_scripts.curation.engine.pipeline import curate
from dataset_scripts.curation.engine.recipe import load_recipe
from dataset_scripts.curation.language.attributes import load_vocabulary
from dataset_scripts.curation.language.checks import NegativeChecker
from dataset_scripts.curation.language.pipeline import load_language
from dataset_scripts.curation.language.text import clean, normalized

RECIPE = Path("dataset_scripts/curation/recipes/text.yaml")


def head_nouns(texts: list[str]) -> dict[str, str | None]:
    """Text → lemma of its first noun chunk's noun."""
    nlp = load_language()
    unique = list(dict.fromkeys(texts))
    heads = {}
    for text, doc in zip(unique, nlp.pipe(unique, batch_size=256), strict=True):
        chunk = next(iter(doc.noun_chunks), None)
        heads[text] = chunk.root.lemma_.casefold() if chunk is not None else None
    return heads


def compare_expressions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall over regions and precision over expressions, by the same words and by the same head noun.

    A region is found if an expression of its image, short or long, is one of its two phrases (case and determiner aside),
    or has the head noun of one. The data keeps at most two wordings a box and only boxed things, so an expression that
    matches nothing may still be right: precision is a lower bound.
    """
    phrases = [[[clean(t) for t in (r["short_expr"], r["long_expr"]) if t] for r in row["regions"]] for row in rows]
    expressions = [[(e["short"], e["long"]) for e in row["expressions"]] for row in rows]
    texts = [t for row in phrases for region in row for t in region] + [e for row in expressions for e, _ in row]
    heads = head_nouns(texts)
    count: Counter[str] = Counter()
    for regions, found in zip(phrases, expressions, strict=True):
        words = {normalized(text) for pair in found for text in pair}
        nouns = {heads[short] for short, _ in found} - {None}
        said = {normalized(text) for region in regions for text in region}
        said_nouns = {heads[text] for region in regions for text in region} - {None}
        for region in regions:
            count["regions"] += 1
            count["regions, words"] += bool({normalized(t) for t in region} & words)
            count["regions, noun"] += bool({heads[t] for t in region} & nouns)
            named = any(heads[t] for t in region)
            count["regions with a noun"] += named
            count["regions with a noun, words"] += named and bool({normalized(t) for t in region} & words)
            count["regions with a noun, noun"] += named and bool({heads[t] for t in region} & nouns)
        for short, long in found:
            count["expressions"] += 1
            count["expressions, words"] += bool({normalized(short), normalized(long)} & said)
            count["expressions, noun"] += heads[short] in said_nouns
    return {
        "counts": dict(count),
        "recall": {
            "same words": count["regions, words"] / count["regions"],
            "same head noun": count["regions, noun"] / count["regions"],
            "same words, phrases that name an object": count["regions with a noun, words"]
            / count["regions with a noun"],
            "same head noun, phrases that name an object": count["regions with a noun, noun"]
            / count["regions with a noun"],
        },
        "precision (lower bound)": {
            "same words": count["expressions, words"] / count["expressions"],
            "same head noun": count["expressions, noun"] / count["expressions"],
        },
    }


def check_negatives(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Regions with an attribute against regions with negatives, and every negative through every check again."""
    nlp, vocabulary = load_language(), load_vocabulary()
    regions = [region for row in rows for region in row["regions"] if region["short_expr"]]
    docs = nlp.pipe([clean(region["short_expr"]) for region in regions], batch_size=256)
    with_attribute = [bool(vocabulary.slots(doc)) for doc in docs]
    made = [region for region in regions if region["negatives"]]
    checker = NegativeChecker(nlp, vocabulary)
    reasons: Counter[str] = Counter()
    for start in tqdm(range(0, len(made), 1000), desc="checks", unit="k regions"):
        part = made[start : start + 1000]
        verdicts = checker.reasons_of_many([r["short_expr"] for r in part], [r["negatives"] for r in part])
        reasons.update(reason or "good" for group in verdicts for reason in group)
    return {
        "regions": len(regions),
        "with an attribute": sum(with_attribute),
        "with negatives": len(made),
        "with exactly 10": sum(len(set(region["negatives"])) == 10 for region in made),
        "checks": dict(reasons),
        "attribute but no negatives": [
            region["short_expr"]
            for region, has in zip(regions, with_attribute, strict=True)
            if has and not region["negatives"]
        ][:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder in FineHARD's published layout, with human phrases")
    parser.add_argument("--output", required=True, help="folder of the run; an existing run is gone on with")
    parser.add_argument("--result", default="benchmarks/results/curation.json")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    report = curate(load_recipe(RECIPE), options.data, options.output, workers=options.workers)
    shards = sorted((Path(options.output) / "work" / "quality").glob("*.parquet"))
    rows = [row for path in shards for row in pq.read_table(path).to_pylist()]
    stages = report["stages"]
    made = stages["negatives"]["counts"]
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "records": len(rows),
        "expressions": compare_expressions(rows),
        "negatives": check_negatives(rows),
        "text_bias": report["text_bias"],
        "rates a core, by processor time": {
            "captions/s (expressions)": len(rows) / stages["expressions"]["cpu_seconds"],
            "expressions/s": stages["expressions"]["counts"]["expressions"] / stages["expressions"]["cpu_seconds"],
            "negatives/s": made["negatives"] / stages["negatives"]["cpu_seconds"],
            "records/s (input)": len(rows) / stages["input"]["cpu_seconds"],
            "records/s (quality)": len(rows) / stages["quality"]["cpu_seconds"],
        },
        "failures": {name: stage["failures"] for name, stage in stages.items() if stage["failures"]},
    }
    path = Path(options.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
