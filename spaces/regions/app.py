"""Region explorer: draw boxes, type phrases and hard negatives, see the ranking and where each phrase is.

python spaces/regions/app.py --model CHECKPOINT [--detector FOLDER]

With a detector of training/detection/train.py the phrases can also be looked for as classes, without boxes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import gradio as gr
import torch
from PIL import Image
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import (
    BOXES,
    Point,
    arguments,
    beside,
    boxes_of,
    clean_text,
    drawn,
    heat_maps,
    launch,
    load,
    open_upload,
    saved,
    tapped,
)

from dataset_scripts.pages import TEMPLATES, picture_url, render
from dataset_scripts.paths import PUBLISHED_PREFIX
from dataset_scripts.sample import generate_sample
from eval.adapters.fgclip import FGCLIPAdapter
from eval.detection.drawing import DRAWN_FROM, draw

INTRODUCTION = """# Regions and fine differences
Choose an image or an example, tap two opposite corners of a box (as often as you like), and type phrases that differ in a
detail."""
HINT = """The shares of a box add up to 100 %: the model has to choose, even where no phrase is right. The cosine tells
how well a phrase fits by itself; compare it with that of a phrase that is surely wrong."""
PHRASES = "a light red wooden star\na dark red wooden star\na light blue wooden star\na light red metal star"
MAX_PHRASES = 12
RANKING = TEMPLATES.from_string("""{% for heading, rows in tables %}
<table class="ranking"><caption>{{ heading }}</caption>
<thead><tr><th scope="col">phrase</th><th scope="col">share</th><th scope="col">cosine</th></tr></thead>
<tbody>
{% for phrase, share, cosine in rows %}
<tr{% if loop.first %} class="best"{% endif %}><td>{{ phrase }}
<div class="bar" style="width:{{ "%.1f"|format(share) }}%" aria-hidden="true"></div></td>
<td class="score">{{ "%.1f"|format(share) }} %</td><td class="score">{{ "%.3f"|format(cosine) }}</td></tr>
{% endfor %}
</tbody></table>
{% endfor %}
<p class="hint">{{ hint }}</p>""")

Rows = list[tuple[str, float, float]]  # phrase, share in percent, cosine


def examples(folder: Path) -> list[list[str]]:
    """Generated scenes: image, a box, and its phrase among hard negatives."""
    generate_sample(folder, train=1, test=3, image_size=256, workers=1)
    (records,) = ((folder / "test" / "jsonfiles").glob("*.json"),)
    found = []
    for record in json.loads(next(iter(records)).read_text(encoding="utf-8")):
        box = next(box for box in record["bbox_info"] if box["flag_short_neg"])
        path = folder / "test" / "images" / record["f_path"].removeprefix(PUBLISHED_PREFIX)
        place = " ".join(f"{100 * side:.1f}" for side in box["bbox"][:4])
        found.append([str(path), place, "\n".join([box["short_expr"], *list(box["short_expr_negs"].values())[:3]])])
    return found


class Explorer:
    """Answers of the page."""

    def __init__(self, adapter: FGCLIPAdapter, detector: Path | None = None):
        self.adapter, self.detector = adapter, None
        if detector is not None:
            # Needs the extra `detection`, which the demo does without otherwise.
            from eval.detection.checkpoint import load_detector

            self.detector = load_detector(detector, adapter=adapter)

    def choose(self, path: str | None) -> tuple:
        """A new image: no boxes, no results."""
        image = None if path is None else open_upload(path)
        return image, None if image is None else drawn(image, []), None, "", "", [], gr.DownloadButton(visible=False)

    def example(self, path: str, boxes: str, phrases: str) -> tuple:
        """An example's image with its box, and its phrases compared."""
        image = open_upload(path)
        return image, drawn(image, boxes_of(boxes)), None, boxes, phrases, *self.compare(image, boxes, phrases)

    def tap(
        self, image: Image.Image | None, corner: Point | None, boxes: str, event: gr.SelectData
    ) -> tuple[Image.Image, Point | None, str]:
        """Every second tap finishes a box."""
        if image is None:
            raise gr.Error("Choose an image first.")
        size = drawn(image, []).size
        point = tuple(min(max(float(part) / side, 0), 1) for part, side in zip(event.index, size, strict=True))
        corner, boxes = tapped(corner, boxes, point)
        return drawn(image, boxes_of(boxes), corner), corner, boxes

    def redraw(self, image: Image.Image | None, boxes: str) -> Image.Image | None:
        """The boxes as they are written."""
        return None if image is None else drawn(image, boxes_of(boxes))

    def clear(self, image: Image.Image | None) -> tuple:
        return None if image is None else drawn(image, []), None, "", "", [], gr.DownloadButton(visible=False)

    @torch.no_grad()
    def compare(self, image: Image.Image | None, written: str, text: str) -> tuple:
        """The phrases ranked for each box (for the whole image, if there is none), the photograph beside the heat map of
        each phrase, and all of it as a page.
        """
        if image is None:
            raise gr.Error("Choose an image first.")
        phrases, boxes = phrases_of(text), boxes_of(written)
        model, processor = self.adapter.model, self.adapter.processor
        inputs = processor(images=image, text=phrases, boxes=boxes or None, box_format="normalized").to(model.device)
        output = model(**inputs)
        if boxes:
            embeddings, scale = output.region_embeds[0], output.scales[1]
            headings = [f"Box {number}" for number in range(1, len(boxes) + 1)]
        else:
            embeddings, scale, headings = output.image_embeds, output.scales[0], ["Whole image (no box drawn)"]
        cosines = (normalize(embeddings) @ normalize(output.text_embeds).t()).float().cpu()
        shares = 100 * (cosines * scale.cpu()).softmax(-1)
        tables = [(heading, ranking(*rows, phrases)) for heading, *rows in zip(headings, shares, cosines, strict=True)]
        photograph = drawn(image, boxes)
        maps = [beside(photograph, picture) for picture in heat_maps(self.adapter, image, phrases)]
        page = render(
            "eval/visualize/regions.html",
            title="Regions and fine differences",
            tables=tables,
            hint=HINT,
            maps=[(phrase, picture_url(picture, 1280)) for phrase, picture in zip(phrases, maps, strict=True)],
        )
        table = RANKING.render(tables=tables, hint=HINT)
        return (
            table,
            list(zip(maps, phrases, strict=True)),
            gr.DownloadButton(value=saved(page, "regions.html"), visible=True),
        )

    @torch.no_grad()
    def find(self, image: Image.Image | None, text: str, threshold: float) -> Image.Image:
        """The boxes of what the phrases name, as the detector finds them, at or above a score."""
        from eval.detection.predict import predict
        from eval.detection.vocabulary import Vocabulary
        from eval.embed import Embedder
        from eval.images import MemoryImage

        if image is None:
            raise gr.Error("Choose an image first.")
        embedder = Embedder(self.adapter, distributed=False, progress=False)
        try:
            self.detector.roi_heads.vocabulary = Vocabulary.of(phrases_of(text), embedder, self.detector.base_classes)
        except ValueError as error:
            raise gr.Error(str(error)) from None
        (found,) = predict(self.detector, [MemoryImage(image)], progress=False)
        return draw(image, found, self.detector.roi_heads.vocabulary.names, threshold)


def ranking(shares: torch.Tensor, cosines: torch.Tensor, phrases: list[str]) -> Rows:
    """The phrases from best to worst. shares, cosines: (phrases,)."""
    order = shares.argsort(descending=True).tolist()
    return [(phrases[index], float(shares[index]), float(cosines[index])) for index in order]


def phrases_of(text: str) -> list[str]:
    """The lines of a text box, each once.

    Raises:
        gr.Error: none, or too many.
    """
    phrases = list(dict.fromkeys(filter(None, map(str.strip, clean_text(text, "some phrases").splitlines()))))
    if len(phrases) > MAX_PHRASES:
        raise gr.Error(f"At most {MAX_PHRASES} phrases, one a line; these are {len(phrases)}.")
    return phrases


def build(explorer: Explorer, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        folder: for the examples, which are drawn into it.
    """
    with gr.Blocks(title="FG-CLIP: region explorer") as demo:
        gr.Markdown(INTRODUCTION)
        image, corner, scenes = gr.State(), gr.State(), examples(folder)
        chosen = gr.Dataset(
            components=[gr.Image(visible=False)],
            samples=[[path] for path, _, _ in scenes],
            type="index",
            label="Examples: generated scenes, each with a box, its phrase and three hard negatives",
            elem_id="examples",
        )
        with gr.Row():
            with gr.Column(min_width=300):
                upload = gr.File(label="Image", file_types=["image"], type="filepath", height=110, elem_id="upload")
                canvas = gr.Image(
                    # A label would lie over the corner that is to be tapped.
                    show_label=False,
                    label="The image with its boxes",
                    type="pil",
                    interactive=False,
                    format="png",
                    elem_id="canvas",
                    buttons=[],
                )
                # For those who do not tap, and to give a box on.
                boxes = gr.Textbox(label=BOXES, lines=2, placeholder="20 15 65 80", elem_id="boxes")
            with gr.Column(min_width=300):
                phrases = gr.Textbox(
                    label="Phrases and hard negatives, one a line", value=PHRASES, lines=5, elem_id="phrases"
                )
                with gr.Row():
                    clear = gr.Button("Clear boxes", elem_id="clear", min_width=120)
                    compare = gr.Button("Compare", variant="primary", elem_id="compare", min_width=120)
                table = gr.HTML(elem_id="ranking")
                save = gr.DownloadButton("Save these results as a page", visible=False, elem_id="save")
        gr.Markdown("The image, and beside it where each phrase is: warm where the similarity is high.")
        maps = gr.Gallery(
            show_label=False,
            label="The image, and beside it where each phrase is",
            columns=2,
            object_fit="contain",
            height="auto",
            elem_id="maps",
            buttons=["download", "fullscreen"],
        )
        results = [table, maps, save]
        shown = [image, canvas, corner, boxes, phrases, *results]
        chosen.click(lambda number: explorer.example(*scenes[number]), chosen, shown, api_name=False)
        for event in (upload.upload, upload.clear):
            event(explorer.choose, upload, [image, canvas, corner, boxes, *results], api_name=False)
        canvas.select(explorer.tap, [image, corner, boxes], [canvas, corner, boxes], api_name=False)
        boxes.blur(explorer.redraw, [image, boxes], canvas, api_name=False)
        clear.click(explorer.clear, image, [canvas, corner, boxes, *results], api_name=False)
        compare.click(explorer.compare, [image, boxes, phrases], results, api_name=False)
        if explorer.detector is not None:
            gr.Markdown("The phrases as classes, found by the detector:")
            threshold = gr.Slider(0.05, 0.95, DRAWN_FROM, step=0.05, label="Score from which a box is drawn")
            find = gr.Button("Find them", elem_id="find")
            found = gr.Image(
                show_label=False,
                label="What the detector found",
                type="pil",
                interactive=False,
                format="png",
                elem_id="found",
                buttons=["download"],
            )
            find.click(explorer.find, [image, phrases, threshold], found, api_name=False)
    return demo


if __name__ == "__main__":
    args = arguments(__doc__, {"detector": "output folder of training/detection/train.py (optional)"})
    with tempfile.TemporaryDirectory() as folder:
        explorer = Explorer(load(args.model), Path(args.detector) if args.detector else None)
        launch(build(explorer, Path(folder) / "examples"), args)
