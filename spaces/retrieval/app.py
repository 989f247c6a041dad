"""Fine-grained retrieval: search a folder of images with short or long text, or with an image; the phrase is highlighted.

python spaces/retrieval/app.py --model CHECKPOINT --images FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import arguments, clean_text, heat_maps, launch, load, open_upload, shown

from eval.adapters.fgclip import FGCLIPAdapter
from eval.embed import Embedder
from eval.images import MemoryImage
from eval.search.source import open_collection

INTRODUCTION = """# Search images by fine detail
Describe what you look for, in a phrase or in several sentences, or give an image that is like it. The heat map shows where
the *highlighted phrase* is."""
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

    def search(
        self, text: str, example: str | None, length: str, phrase: str, count: int
    ) -> list[tuple[Image.Image, str]]:
        """The best images with their names and cosines, under the heat map of a phrase where there is one.

        Args:
            example: path of an image to look for instead of a text.
        """
        text, phrase = (text or "").strip(), (phrase or "").strip()
        if text and example:
            raise gr.Error("Give a text or an image, not both: clear one of them.")
        if example:
            features, _ = self.embedder.images([MemoryImage(open_upload(example))])
            query = features[0]
        else:
            text = clean_text(text, "what you look for")
            query = self.embedder.texts([text], "long" if length == LONG else "short")[0]
            phrase = phrase or text
        scores = self.features @ query
        best = scores.topk(min(int(count), len(scores)))
        results = []
        for score, row in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            item = int(self.readable[row])
            image = shown(self.collection.images[item].open())
            (picture,) = heat_maps(self.adapter, image, [phrase]) if phrase else (image,)
            results.append((picture, f"{score:.3f} · {Path(self.collection.names[item]).name}"))
        return results


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
        example = gr.Image(
            label="Or an image like it", type="filepath", sources=["upload"], height=200, elem_id="example"
        )
        with gr.Row():
            length = gr.Radio([SHORT, LONG], value=SHORT, label="Text", min_width=280)
            count = gr.Slider(1, 24, value=6, step=1, label="Results", min_width=280)
        button = gr.Button("Search", variant="primary", elem_id="search")
        gr.Markdown(f"The best of {len(retrieval.readable)} images:")
        gallery = gr.Gallery(
            show_label=False, columns=3, object_fit="contain", height="auto", elem_id="results", buttons=[]
        )
        inputs = [text, example, length, phrase, count]
        button.click(retrieval.search, inputs, gallery, api_name="search")
        text.submit(retrieval.search, inputs, gallery, api_name=False)
    return demo


if __name__ == "__main__":
    args = arguments(__doc__, images="what to search: folder of images, or id of a data set on the Hub")
    launch(build(Retrieval(load(args.model), args.images)), args)
