"""Fine-grained retrieval: search a folder of images with short or long text, or with an image; the phrase is highlighted.

python spaces/retrieval/app.py --model CHECKPOINT --images FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import (
    Point,
    arguments,
    beside,
    boxes_of,
    clean_text,
    heat_maps,
    launch,
    load,
    open_upload,
    saved,
    shown,
    tapped,
)

from dataset_scripts.pages import picture_url, render
from eval.adapters.fgclip import FGCLIPAdapter
from eval.embed import Embedder
from eval.images import Boxes, MemoryImage
from eval.search.index import Hit
from eval.search.source import open_collection

INTRODUCTION = """# Search images by fine detail
Describe what you look for, in a phrase or in several sentences, or give an image that is like it, or a part of one. Beside
each image, the heat map shows where the *highlighted phrase* is."""
EXAMPLES = ["a light red wooden star", "a dog with a red collar", "two people under a yellow umbrella"]
SHORT, LONG = "short (up to 77 tokens)", "long (up to 248 tokens)"


class Retrieval:
    """Embeddings of a collection of images and the model that made them.

    Args:
        adapter: the model.
        source: a folder, searched recursively, or a data set on the Hub.
    """

    def __init__(self, adapter: FGCLIPAdapter, source: str):
        self.adapter = adapter
        self.embedder = Embedder(adapter, batch_size=32, allow_missing=True, distributed=False)
        self.collection = open_collection(source)
        features, readable = self.embedder.images(self.collection.images)
        self.readable = torch.from_numpy(readable).nonzero().flatten()
        self.features = features[self.readable]  # (images, D)

    def search(self, text: str, example: str | None, part: str, length: str, phrase: str, count: int) -> tuple:
        """The best images with their names and cosines, beside the heat map of a phrase where there is one, and all of it
        as a page.

        Args:
            example: path of an image to look for instead of a text. part: a box of it, in percent.
        """
        text, phrase = (text or "").strip(), (phrase or "").strip()
        if text and example:
            raise gr.Error("Give a text or an image, not both: clear one of them.")
        if example:
            query = self.example(open_upload(example), part)
        else:
            text = clean_text(text, "what you look for")
            query = self.embedder.texts([text], "long" if length == LONG else "short")[0]
            phrase = phrase or text
        scores = self.features @ query
        best = scores.topk(min(int(count), len(scores)))
        results, hits = [], []
        for score, row in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            item = int(self.readable[row])
            picture = shown(self.collection.images[item].open())
            if phrase:
                picture = beside(picture, *heat_maps(self.adapter, picture, [phrase]))
            name = Path(self.collection.names[item]).name
            results.append((picture, f"{score:.3f} · {name}"))
            hits.append((Hit(name, (0.0, 0.0, 1.0, 1.0), score), picture_url(picture, 1280)))
        page = render("eval/search/hits.html", title=text or "Images like the given one", hits=hits)
        return results, gr.DownloadButton(value=saved(page, "found.html"), visible=True)

    def example(self, image: Image.Image, part: str) -> torch.Tensor:
        """(D,) of the image, or of a part of it.

        Raises:
            gr.Error: several boxes.
        """
        boxes = boxes_of(part)
        if not boxes:
            return self.embedder.images([MemoryImage(image)])[0][0]
        if len(boxes) > 1:
            raise gr.Error("Look for one part at a time: give one box.")
        return self.embedder.regions([MemoryImage(image)], [Boxes(np.array(boxes, np.float32))])[0][0]

    def tap(self, example: str | None, corner: Point | None, event: gr.SelectData) -> tuple[Point | None, str]:
        """Two taps on the example choose a part of it."""
        with Image.open(example) as image:
            point = tuple(min(max(part / side, 0), 1) for part, side in zip(event.index, image.size, strict=True))
        return tapped(corner, "", point)


def build(retrieval: Retrieval) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="FG-CLIP: fine-grained retrieval") as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=3, min_width=280):
                text = gr.Textbox(label="Look for", placeholder="a light red wooden star", lines=2, elem_id="query")
            with gr.Column(scale=2, min_width=280):
                phrase = gr.Textbox(
                    label="Highlight (optional)", placeholder="the same text if left empty", lines=2, elem_id="phrase"
                )
        gr.Examples([[one] for one in EXAMPLES], [text], label="Examples", elem_id="examples", api_name=False)
        with gr.Row():
            example = gr.Image(
                label="Or an image like it", type="filepath", sources=["upload"], height=200, elem_id="example"
            )
            part = gr.Textbox(
                label="A part of it (optional), in percent: left top right bottom",
                placeholder="20 15 65 80",
                elem_id="part",
            )
            corner = gr.State()
        with gr.Row():
            length = gr.Radio([SHORT, LONG], value=SHORT, label="Text", min_width=280)
            count = gr.Slider(1, 24, value=6, step=1, label="Results", min_width=280)
        button = gr.Button("Search", variant="primary", elem_id="search")
        gr.Markdown(f"The best of {len(retrieval.readable)} images:")
        gallery = gr.Gallery(
            show_label=False,
            label="What was found",
            columns=2,
            object_fit="contain",
            height="auto",
            elem_id="results",
            buttons=["download", "fullscreen"],
        )
        save = gr.DownloadButton("Save these results as a page", visible=False, elem_id="save")
        inputs = [text, example, part, length, phrase, count]
        example.select(retrieval.tap, [example, corner], [corner, part], api_name=False)
        example.change(lambda: (None, ""), None, [corner, part], api_name=False)
        button.click(retrieval.search, inputs, [gallery, save], api_name="search")
        text.submit(retrieval.search, inputs, [gallery, save], api_name=False)
    return demo


if __name__ == "__main__":
    args = arguments(__doc__, images="what to search: folder of images, or id of a data set on the Hub")
    launch(build(Retrieval(load(args.model), args.images)), args)
