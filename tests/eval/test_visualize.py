"""Similarity maps, region against captions, and failures, with answers known from colors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from eval.embed import Embedder
from eval.images import MemoryImage
from eval.report.document import Cell, Table
from eval.tasks import make_task
from eval.visualize.__main__ import main
from eval.visualize.caption_figure import DPI, MARGIN, MODEL_WIDTH, caption_figure, name_in_lines
from eval.visualize.commands import headings
from eval.visualize.failures import Failure, find_failures, write_failures
from eval.visualize.region_captions import region_caption_scores
from eval.visualize.similarity import overlay, similarity_figure, similarity_maps
from tests.eval.color_model import RGB, ColorModel


@pytest.fixture
def two_halves() -> Image.Image:
    image = Image.new("RGB", (64, 32), RGB["red"])
    image.paste(RGB["blue"], (32, 0, 64, 32))
    return image


def test_maps_are_cosines_of_every_patch(two_halves, color_model):
    maps = similarity_maps(color_model, two_halves, ["a red thing", "a blue thing"])
    assert maps.shape == (2, 8, 8)
    np.testing.assert_allclose(maps[0, :, :3], 1, atol=1e-3)
    np.testing.assert_allclose(maps[1, :, 5:], 1, atol=1e-3)
    red, blue = (np.array(RGB[name]) / 255 - 0.5 for name in ("red", "blue"))
    np.testing.assert_allclose(maps[0, :, 5:], red @ blue / np.linalg.norm(red) / np.linalg.norm(blue), atol=1e-3)
    with pytest.raises(ValueError, match="at least one phrase"):
        similarity_maps(color_model, two_halves, [])


def test_overlay_is_yellow_where_it_is_similar(two_halves, color_model):
    grey = Image.new("RGB", (64, 32), (128, 128, 128))
    drawn = overlay(grey, similarity_maps(color_model, two_halves, ["red"])[0])
    assert drawn.shape == (32, 64, 3)
    left, right = drawn[:, :20].mean((0, 1)), drawn[:, -20:].mean((0, 1))
    assert left[0] > 0.7 > left[2]  # viridis: yellow at the top
    assert right[2] > right[0]  # and violet at the bottom


def test_figure_has_a_row_for_every_image_and_model(two_halves, tmp_path):
    models = {"first": ColorModel(), "second": ColorModel()}
    path = similarity_figure(
        tmp_path / "deep/figure.png", models, [two_halves, two_halves], [["red", "blue"], ["a price of $5 and $6"]]
    )
    with Image.open(path) as figure:
        width, height = figure.size
        assert figure.format == "PNG"
    assert (width, height) == (828, 1248)  # 3 columns of 2.3 inches, 4 rows of 2.6, 120 dots an inch
    with pytest.raises(ValueError, match="2 images and 1 lists"):
        similarity_figure(path, ColorModel(), [two_halves] * 2, [["red"]])


def test_region_scores_are_stretched_as_in_table_7(two_halves, color_model):
    captions = ["a red thing", "a blue thing", "a yellow thing"]
    scores = region_caption_scores(color_model, two_halves, (0, 0, 0.5, 1), captions)
    embedded = Embedder(color_model, progress=False).texts(captions).numpy()
    cosines = embedded @ embedded[0]
    np.testing.assert_allclose(
        scores, (cosines - cosines.min()) / (cosines.max() - cosines.min()), atol=1e-2
    )  # the seam is resampled
    assert (scores.max(), scores.min()) == (1, 0)
    with pytest.raises(ValueError, match="at least two captions"):
        region_caption_scores(color_model, two_halves, (0, 0, 1, 1), ["red"])
    with pytest.raises(ValueError, match="inverted or empty"):
        region_caption_scores(color_model, two_halves, (0.5, 0, 0.5, 1), captions)


@pytest.fixture
def fgovd(tmp_path, two_halves):
    (tmp_path / "fgovd").mkdir()
    (tmp_path / "images").mkdir()
    two_halves.save(tmp_path / "images/x.png")
    rows = [
        {
            "img_path": "x.png", "bbox": box, "width": 64, "height": 32,
            "pos_expression": [f"a {positive} cup"], "neg_expression": [f"a {negative} cup" for negative in negatives],
        }
        for box, positive, negatives in (
            ([0, 0, 32, 32], "red", ("blue", "green")),  # right
            ([0, 0, 32, 32], "yellow", ("red", "green")),  # red wins, narrowly
            ([32, 0, 32, 32], "red", ("blue", "yellow")),  # blue wins, clearly
        )
    ]  # fmt: skip
    (tmp_path / "fgovd/h_attributes_llava.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_failures_are_found_worst_first(fgovd, color_model):
    task = make_task("fgovd", {"data": fgovd, "subsets": ("hard",)})
    found, wrong, total = find_failures(task, Embedder(color_model, progress=False), "hard", 10)
    assert (wrong, total) == (2, 3)
    assert [(f.truth, f.winner) for f in found] == [("a red cup", "a blue cup"), ("a yellow cup", "a red cup")]
    assert found[0].margin > found[1].margin > 0
    assert found[0].box == (0.5, 0, 1, 1)
    assert len(find_failures(task, Embedder(color_model, progress=False), "hard", 1)[0]) == 1
    with pytest.raises(ValueError, match="has the subsets hard; got 'easy'"):
        find_failures(task, Embedder(color_model, progress=False), "easy", 1)


def test_command_line_writes_pages_with_their_images_inside(fgovd, tiny_checkpoint, tmp_path):
    model, image = ["--model", str(tiny_checkpoint)], str(fgovd / "images/x.png")
    out = tmp_path / "out"
    runs = {
        "similarity": ["--image", image, "--phrase", "red", "--phrase", "<b>blue</b>"],
        "captions": ["--image", image, "--box", "0,0,32,32", "--caption", "red", "--caption", "<i>blue</i>"],
        "failures": ["--data", str(fgovd), "--option", "subsets=hard", "--num_workers", "0"],
    }
    for command, arguments in runs.items():
        paths = main([command, *model, *arguments, "--output", str(out)])
        assert all(path.stat().st_size > 100 for path in paths)
        page = (out / f"{command}.html").read_text()
        assert page.count('src="data:image/') == page.count("src=") >= 1
        assert "<i>blue" not in page
    with pytest.raises(ValueError, match="x1,y1,x2,y2 in pixels"):
        main(
            [
                "captions",
                *model,
                "--image",
                image,
                "--box",
                "1,2,3",
                "--caption",
                "a",
                "--caption",
                "b",
                "--output",
                str(out),
            ]
        )


def test_models_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / "a/run/stage2", tmp_path / "b/run/stage2", tmp_path / "c/stage1"]
    for folder in folders:
        folder.mkdir(parents=True)
    first, second, third = map(str, folders)
    shared, other = "run/stage2", "c/stage1"
    assert headings([shared, shared, other], [first, second, third]) == ["a/run/stage2", "b/run/stage2", other]
    assert headings([shared, other], [first, third]) == [shared, other]
    assert headings([shared] * 3, [first, second, first]) == ["a/run/stage2 (1)", "b/run/stage2", "a/run/stage2 (2)"]
    assert headings(["owner/name"] * 2, ["owner/name"] * 2) == ["owner/name (1)", "owner/name (2)"]


def test_models_of_one_name_keep_a_column_each(fgovd, tiny_checkpoint, tmp_path):
    copies = [tmp_path / side / "run/stage2" for side in ("left", "right")]
    for copy in copies:
        copy.parent.mkdir(parents=True)
        copy.symlink_to(tiny_checkpoint)
    models = [word for copy in copies for word in ("--model", str(copy))]
    image = ["--image", str(fgovd / "images/x.png"), "--box", "0,0,32,32", "--caption", "red", "--caption", "blue"]
    main(["captions", *models, *image, "--output", str(tmp_path / "out")])
    header = (tmp_path / "out/captions.md").read_text().splitlines()[-4]
    assert header == "| caption | left/run/stage2 | right/run/stage2 |"


@pytest.mark.parametrize("size", [(64, 32), (300, 900)])
def test_figure_of_captions_holds_image_and_table(size, tmp_path):
    """Beside the image there is ink of the texts, and the bars are as long as their shares."""
    caption = "a caption of $5 and $6 " * 4
    rows = [[caption, Cell("0.5", 0.5), Cell("", share)] for share in (1, 0.5, 0)]
    table = Table(["caption", "one", "a/much-longer_name/of-a-model"], rows, own={0})
    path = caption_figure(
        tmp_path / "c.png", Image.new("RGB", size, RGB["red"]), (0.1, 0.1, 0.5, 0.5), table, "t", "n"
    )
    with Image.open(path) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    red = (pixels == RGB["red"]).all(2)
    assert red.any()
    assert (pixels[:, : red.any(0).nonzero()[0][-1]] == [255, 255, 0]).all(2).any()  # the box
    bar = (pixels == [0xCF, 0xE3, 0xFF]).all(2)
    assert not bar[:, : red.any(0).nonzero()[0][-1]].any()
    lengths = set(bar[:, -int((MODEL_WIDTH + MARGIN) * DPI) :].sum(1).tolist()) - {0}
    assert len(lengths) == 2
    assert max(lengths) == pytest.approx(2 * min(lengths), abs=3)


def test_names_are_broken_where_their_parts_end():
    assert name_in_lines("openai/clip-vit-base-patch16", 13) == "openai/clip-\nvit-base-\npatch16"
    assert name_in_lines("q7/stage2 (1)", 13) == "q7/stage2 (1)"
    assert name_in_lines("abcdefghij", 4) == "abcd\nefgh\nij"


def test_titles_of_the_contact_sheet_are_not_cut(two_halves, tmp_path):
    long = "a dark yellow dotted star with a light yellow border that is rather long"
    failures = [Failure(MemoryImage(two_halves.resize((64, 64))), (0.5, 0, 1, 1), long, long, 0.1, 2)] * 4
    _, path = write_failures(tmp_path, failures, "title")
    with Image.open(path) as sheet:
        margin = np.asarray(sheet.convert("L"))[:8]
    assert (margin == 255).all()


def test_mistakes_are_named_before_a_model_is_loaded(fgovd, tmp_path):
    image = str(fgovd / "images/x.png")
    common = ["--model", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    captions = ["captions", "--image", image, "--caption", "a", "--caption", "b", "--box"]
    failures = ["failures", "--data", str(fgovd)]
    for arguments, message in (
        ([*captions, "40,0,40,32"], r"--box 40 0 40 32 in .*x\.png \(64×32 pixels\): box"),
        ([*captions, "100,0,140,32"], r"x\.png .* wholly outside"),
        ([*captions[:5], "--box", "0,0,9,9"], "--caption is needed twice"),
        ([*failures, "--option", "foo"], "NAME=VALUE, e.g. .*; got 'foo'"),
        ([*failures, "--count", "0"], "at least 1; got 0"),
        ([*failures, "--task", "negatives", "--subset", "easy"], "--subset is about --task fgovd"),
        ([*captions, "0,0,9,9", "--caption", " "], "--caption is empty"),
        (["similarity", "--image", "none.png", "--phrase", "a"], "none.png does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*arguments, *common])


def test_a_box_that_reaches_out_is_cut_with_a_warning(fgovd, tiny_checkpoint, tmp_path, caplog):
    image = ["--image", str(fgovd / "images/x.png"), "--box", "0,0,99,32", "--caption", "red", "--caption", "blue"]
    main(["captions", "--model", str(tiny_checkpoint), *image, "--output", str(tmp_path / "out")])
    assert "reaches out of the image" in caplog.text


def test_failures_need_the_file_of_their_subset_alone(fgovd, tiny_checkpoint, tmp_path):
    options = ["--data", str(fgovd), "--num_workers", "0", "--output", str(tmp_path / "out")]
    assert main(["failures", "--model", str(tiny_checkpoint), *options])
