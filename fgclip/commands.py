"""The table of commands. A new command is a line here and a module with `main(arguments)`."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command and the module behind it, which `python -m` runs too.

    Args:
        group: heading of the overview.
        name: one word, or two.
        module, function: called with the arguments behind the name.
        about: one line.
        resumes: the same command, given again, goes on where it was stopped.
        checkout: only in a clone of the repository.
    """

    group: str
    name: str
    module: str
    about: str
    function: str = "main"
    resumes: bool = False
    checkout: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.name.split())


DATA, TRAIN, EVALUATE, USE = "data", "training", "evaluation", "use"

COMMANDS = (
    Command(TRAIN, "quickstart", "training.quickstart", "data, both stages, evaluation and figures in minutes"),
    Command(DATA, "sample", "dataset_scripts.sample.__main__", "write a generated data set"),
    Command(DATA, "own-data", "dataset_scripts.own_data.__main__", "own images to shards: COCO, a table, a folder, …", resumes=True),
    Command(DATA, "convert", "dataset_scripts.convert.__main__", "FineHARD to shards", resumes=True),
    Command(DATA, "validate", "dataset_scripts.validate.__main__", "check images, boxes and texts of a set"),
    Command(DATA, "curate", "dataset_scripts.curation.__main__", "images to captions, regions and hard negatives", resumes=True),
    Command(DATA, "review sheet", "dataset_scripts.curation.review.sheet", "a page on which people mark hard negatives"),
    Command(DATA, "review agreement", "dataset_scripts.curation.review.agreement", "how far the marks agree"),
    Command(DATA, "export-data", "dataset_scripts.curation.export", "records to FineHARD's published layout"),
    Command(DATA, "publish-data", "dataset_scripts.publish", "shards and a card to the Hub", resumes=True),
    Command(TRAIN, "train stage1", "training.stage1", "global loss on long and short captions", resumes=True),
    Command(TRAIN, "train stage2", "training.stage2", "with regions and hard negatives", resumes=True),
    Command(TRAIN, "train detection", "training.detection.train", "a detector on a frozen encoder", resumes=True),
    Command(TRAIN, "llava build", "training.llava.commands.build", "a LLaVA of an encoder and a language model, projector untrained"),
    Command(TRAIN, "llava pretrain", "training.llava.pretrain", "LLaVA's first stage: the projector, from captions", resumes=True),
    Command(TRAIN, "llava finetune", "training.llava.finetune", "LLaVA's second stage: projector and language model, from conversations", resumes=True),
    Command(TRAIN, "llava new-language-model", "training.llava.commands.language_model", "a small language model with random weights"),
    Command(TRAIN, "new-model", "training.scratch", "a small model with random weights"),
    Command(TRAIN, "plan", "training.plan", "memory, hours and cost of a run"),
    Command(TRAIN, "ablation", "training.ablation.__main__", "tables 6 and 8 of the paper, over several seeds", resumes=True),
    Command(TRAIN, "publish", "training.publishing", "a run and its model card to the Hub"),
    Command(EVALUATE, "eval", "eval.__main__", "zero-shot benchmarks", function="command", resumes=True),
    Command(EVALUATE, "llava eval", "eval.llava.__main__", "GQA, POPE, RefCOCO and MMBench of a LLaVA", function="command", resumes=True),
    Command(EVALUATE, "report", "eval.report.__main__", "write the report of a finished evaluation again"),
    Command(EVALUATE, "visualize", "eval.visualize.__main__", "similarity maps, captions of a region, failures"),
    Command(USE, "search", "eval.search.__main__", "embed images and search them by text, image or region"),
    Command(USE, "detect", "eval.detection.__main__", "boxes of named classes in images"),
    Command(USE, "export", "modeling_fgclip.export", "encoders to ONNX and torch.export"),
    Command(USE, "convert-model", "modeling_fgclip.convert", "checkpoints from and to other formats"),
    Command(USE, "serve", "spaces.api.__main__", "embeddings over HTTP", checkout=True),
    Command(USE, "publish-demo", "spaces.publish", "a Gradio demo to the Hub", checkout=True),
)  # fmt: skip


def resumes(called_as: str) -> bool:
    """Whether the command that a user called, as `fgclip NAME` or `python -m MODULE`, goes on where it was stopped."""
    names = {
        name
        for one in COMMANDS
        if one.resumes
        for name in (f"fgclip {one.name}", f"python -m {one.module.removesuffix('.__main__')}")
    }
    return called_as in names
