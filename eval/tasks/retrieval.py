"""Image-text retrieval: the shared protocol, and the task on a FineHARD-like folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from eval.images import ImageSource
from eval.results import Result
from eval.scoring import add_retrieval_scores
from eval.tasks.base import Task, register, require_some
from eval.tasks.records import EvalRecord, RecordTask

if TYPE_CHECKING:
    from eval.embed import Embedder


def join_pictures(
    images: Sequence[ImageSource], captions: Sequence[Sequence[str]]
) -> tuple[list[ImageSource], list[list[str]]]:
    """The distinct pictures in the order of the rows, by their stored bytes, each with the captions of all its rows."""
    contents = {image: image.content() for image in dict.fromkeys(images)}
    joined: dict[str, tuple[ImageSource, list[str]]] = {}
    for image, texts in zip(images, captions, strict=True):
        if contents[image] not in joined:
            joined[contents[image]] = (image, list(texts))
        else:
            own = joined[contents[image]][1]
            own += [text for text in texts if text not in own]
    return [image for image, _ in joined.values()], [texts for _, texts in joined.values()]


def retrieve(
    task: Task,
    embedder: Embedder,
    images: Sequence[ImageSource],
    captions: Sequence[Sequence[str]],
    long: bool,
    as_written: bool = False,
) -> Result:
    """Image → text and text → image R@1, 5, 10 over all captions of all images (section 4.3 of the paper).

    A picture that stands in several rows is one image with the captions of all of them.

    Args:
        images: N sources. captions: the captions of each, at least one.
        long: read the captions with the model's long-text path. as_written: leave their upper-case letters.
    """
    rows = len(images)
    images, captions = join_pictures(images, captions)
    features, valid = embedder.images(images)
    require_some(task, valid)
    kept = np.flatnonzero(valid)
    owner = np.concatenate([np.full(len(captions[i]), row) for row, i in enumerate(kept)])
    texts = [text for i in kept for text in captions[i]]
    kind = "long" if long else "short"
    text_features = embedder.texts(texts, kind, as_written)
    result = Result(task.name, {}, settings={"text": kind + ", as written" * as_written})
    add_retrieval_scores(result, features[kept], text_features, owner, texts)
    result.data = {
        "images": len(kept),
        "rows_joined": rows - len(images),
        "captions": len(texts),
        "captions_shared_by_images": len(texts) - len(set(texts)),
        "images_left_out": int((~valid).sum()),
    }
    return result


@register
@dataclass
class Retrieval(RecordTask):
    """Retrieval on a FineHARD-like data set, long and short captions apart.

    Attributes:
        captions: "long", "short" or both, separated by a comma.
    """

    hub_task: ClassVar[str] = "zero-shot-retrieval"
    name: ClassVar[str] = "retrieval"

    captions: tuple[str, ...] = ("short", "long")

    def load(self) -> list[EvalRecord]:
        unknown = set(self.captions) - {"short", "long"}
        if unknown or not self.captions:
            raise ValueError(f"retrieval.captions must be short, long or short,long; got {','.join(self.captions)!r}.")
        return self.read_records()

    def images_of(self, data: list[EvalRecord]) -> list[ImageSource]:
        return [record.image for record in data]

    def score(self, embedder: Embedder, data: list[EvalRecord]) -> Result:
        combined = Result(self.name, {}, settings={"text": ", ".join(self.captions)})
        for kind in self.captions:
            rows = [(r.image, r.short_captions if kind == "short" else [r.caption] if r.caption else []) for r in data]
            rows = [(image, captions) for image, captions in rows if captions]
            if not rows:
                raise ValueError(f"task retrieval: no record has a {kind} caption; leave it out with captions=…")
            part = retrieve(self, embedder, [i for i, _ in rows], [c for _, c in rows], long=kind == "long")
            for name in ("scores", "outcomes", "groups", "data"):
                own = getattr(part, name)
                getattr(combined, name).update({f"{kind}_{key}": value for key, value in own.items()})
            left_out = {f"{kind}_{key}": value for key, value in part.settings.items() if key.endswith("_left_out")}
            combined.settings |= left_out
        return combined
