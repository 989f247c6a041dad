"""Region explorer: draw boxes, type phrases and hard negatives, see the ranking and where each phrase is.

python spaces/regions/app.py --model CHECKPOINT [--detector FOLDER]

With a detector of training/detection/train.py the phrases can also be looked for as classes, without boxes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import torch
from PIL import Image, ImageDraw, ImageOps
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import SHOWN_SIDE, arguments, clean_text, heat_maps, launch, load, open_upload

from dataset_scripts.pages import TEMPLATES
from eval.adapters.fgclip import FGCLIPAdapter

INTRODUCTION = """# Regions and fine differences
Choose an image, tap two opposite corners of a box (as often as you like), and type phrases that differ in a detail."""
EXAMPLE = "a light red wooden star\na dark red wooden star\na light blue wooden star\na light red metal star"
COLORS = ("#e6194b", "#0082c8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")
MAX_PHRASES, MAX_BOXES = 12, len(COLORS)
THRESHOLD = 0.2  # score from which a found box is drawn

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the canvas
State = dict[str, list]  # `boxes`, and `corner`: the first corner of a box that is not finished


def drawn(image: Image.Image, state: State) -> Image.Image:
    """The canvas: the image with numbered boxes, a small one enlarged so that a thumb can place corners."""
    picture = ImageOps.contain(image, (SHOWN_SIDE, SHOWN_SIDE))
    pen = ImageDraw.Draw(picture)
    width = max(2, picture.width // 200)
    for number, (box, color) in enumerate(zip(state["boxes"], COLORS, strict=False), 1):
        pen.rectangle(box, outline=color, width=width)
        pen.rectangle((box[0], box[1], box[0] + 16, box[1] + 16), fill=color)
        pen.text((box[0] + 5, box[1] + 2), str(number), fill="white")
    for x, y in state["corner"]:
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=COLORS[len(state["boxes"]) % len(COLORS)])
    return picture


RANKING = TEMPLATES.from_string("""<h3>{{ heading }}</h3>
<table class="ranking">
{% for phrase, share in rows %}
<tr{% if loop.first %} class="best"{% endif %}><td>{{ phrase }}
<div class="bar" style="width:{{ "%.1f"|format(share) }}%"></div></td>
<td class="score">{{ "%.1f"|format(share) }} %</td></tr>
{% endfor %}
</table>""")


def ranking(scores: torch.Tensor, phrases: list[str], heading: str) -> str:
    """A table of phrases from best to worst as HTML. scores: (phrases,) that sum to 1."""
    order = scores.argsort(descending=True).tolist()
    return RANKING.render(heading=heading, rows=[(phrases[index], 100 * float(scores[index])) for index in order])


class Explorer:
    """Answers of the page."""

    def __init__(self, adapter: FGCLIPAdapter, detector: Path | None = None):
        self.adapter, self.detector = adapter, None
        if detector is not None:
            # Needs the extra `detection`, which the demo does without otherwise.
            from eval.detection.checkpoint import load_detector

            self.detector = load_detector(detector, adapter=adapter)

    def choose(self, path: str | None) -> tuple[Image.Image | None, Image.Image | None, State, str, list]:
        """A new image: no boxes, no results."""
        image = None if path is None else open_upload(path)
        state: State = {"boxes": [], "corner": []}
        return image, None if image is None else drawn(image, state), state, "", []

    def tap(self, image: Image.Image | None, state: State, event: gr.SelectData) -> tuple[Image.Image | None, State]:
        """Every second tap finishes a box."""
        if image is None:
            raise gr.Error("Choose an image first.")
        x, y = (round(float(part)) for part in event.index)
        width, height = drawn(image, state).size
        x, y = min(max(x, 0), width), min(max(y, 0), height)
        if not state["corner"]:
            state = {**state, "corner": [(x, y)]}
            return drawn(image, state), state
        ((first_x, first_y),) = state["corner"]
        box = (min(x, first_x), min(y, first_y), max(x, first_x), max(y, first_y))
        state = {"boxes": state["boxes"], "corner": []}
        if box[2] - box[0] < 4 or box[3] - box[1] < 4:
            gr.Warning("This box is smaller than four pixels; tap two opposite corners.")
        elif len(state["boxes"]) >= MAX_BOXES:
            gr.Warning(f"At most {MAX_BOXES} boxes; clear them to start anew.")
        else:
            state["boxes"] = [*state["boxes"], box]
        return drawn(image, state), state

    def clear(self, image: Image.Image | None) -> tuple[Image.Image | None, State, str, list]:
        state: State = {"boxes": [], "corner": []}
        return None if image is None else drawn(image, state), state, "", []

    @torch.no_grad()
    def compare(self, image: Image.Image | None, state: State, text: str) -> tuple[str, list[tuple[Image.Image, str]]]:
        """The phrases ranked for each box (for the whole image, if there is none), and a heat map for each phrase."""
        if image is None:
            raise gr.Error("Choose an image first.")
        phrases = phrases_of(text)
        model, processor = self.adapter.model, self.adapter.processor
        width, height = drawn(image, state).size
        boxes = [(x1 / width, y1 / height, x2 / width, y2 / height) for x1, y1, x2, y2 in state["boxes"]]
        inputs = processor(images=image, text=phrases, boxes=boxes or None, box_format="normalized").to(model.device)
        output = model(**inputs)
        if boxes:
            embeddings, scale = output.region_embeds[0], output.scales[1]
            headings = [f"Box {number}" for number in range(1, len(boxes) + 1)]
        else:
            embeddings, scale, headings = output.image_embeds, output.scales[0], ["Whole image (no box drawn)"]
        scores = (normalize(embeddings) @ normalize(output.text_embeds).t() * scale).softmax(-1).cpu()
        tables = "".join(ranking(row, phrases, heading) for row, heading in zip(scores, headings, strict=True))
        return tables, list(zip(heat_maps(self.adapter, image, phrases), phrases, strict=True))

    @torch.no_grad()
    def find(self, image: Image.Image | None, text: str) -> Image.Image:
        """The boxes of what the phrases name, as the detector finds them."""
        from eval.detection.predict import draw, predict
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
        return draw(image, found, self.detector.roi_heads.vocabulary.names, THRESHOLD)


def phrases_of(text: str) -> list[str]:
    """The lines of a text box, each once.

    Raises:
        gr.Error: none, or too many.
    """
    phrases = list(dict.fromkeys(filter(None, map(str.strip, clean_text(text, "some phrases").splitlines()))))
    if len(phrases) > MAX_PHRASES:
        raise gr.Error(f"At most {MAX_PHRASES} phrases, one a line; these are {len(phrases)}.")
    return phrases


def build(explorer: Explorer) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="FG-CLIP: region explorer") as demo:
        gr.Markdown(INTRODUCTION)
        image, state = gr.State(), gr.State({"boxes": [], "corner": []})
        with gr.Row():
            with gr.Column(min_width=300):
                upload = gr.File(label="Image", file_types=["image"], type="filepath", height=110, elem_id="upload")
                canvas = gr.Image(
                    # A label would lie over the corner that is to be tapped.
                    show_label=False,
                    type="pil",
                    interactive=False,
                    format="png",
                    elem_id="canvas",
                    buttons=[],
                )
            with gr.Column(min_width=300):
                phrases = gr.Textbox(
                    label="Phrases and hard negatives, one a line", value=EXAMPLE, lines=5, elem_id="phrases"
                )
                with gr.Row():
                    clear = gr.Button("Clear boxes", elem_id="clear", min_width=120)
                    compare = gr.Button("Compare", variant="primary", elem_id="compare", min_width=120)
                table = gr.HTML(elem_id="ranking")
        gr.Markdown("Where each phrase is:")
        maps = gr.Gallery(show_label=False, columns=4, object_fit="contain", height="auto", elem_id="maps", buttons=[])
        upload.change(explorer.choose, upload, [image, canvas, state, table, maps], api_name=False)
        canvas.select(explorer.tap, [image, state], [canvas, state], api_name=False)
        clear.click(explorer.clear, image, [canvas, state, table, maps], api_name=False)
        compare.click(explorer.compare, [image, state, phrases], [table, maps], api_name=False)
        if explorer.detector is not None:
            gr.Markdown("The phrases as classes, found by the detector:")
            find = gr.Button("Find them", elem_id="find")
            found = gr.Image(
                show_label=False, type="pil", interactive=False, format="png", elem_id="found", buttons=[]
            )
            find.click(explorer.find, [image, phrases], found, api_name=False)
    return demo


if __name__ == "__main__":
    args = arguments(__doc__, {"detector": "output folder of training/detection/train.py (optional)"})
    launch(build(Explorer(load(args.model), Path(args.detector) if args.detector else None)), args)
