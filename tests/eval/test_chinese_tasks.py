"""FG-CLIP 2's Chinese benchmarks in their file formats, for a model that sees colors, and what FG-CLIP 2 itself is given."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from dataset_scripts.formats.captions import read_caption_lines
from dataset_scripts.report import Report
from eval import evaluate_model
from eval.adapters import adapter_for
from eval.embed import Embedder
from eval.tasks import TASKS
from modeling_fgclip import FGCLIP2ImageProcessor, FGCLIP2Processor
from tests.conftest import make_fgclip2_processor
from tests.eval.color_model import ColorModel
from tests.eval.task_runs import run, values, write_json

LONG = {
    "lit_cn": "LIT-CN/image_caption_long_cn.txt",
    "dci_cn": "DCI-CN/image_caption_trans.txt",
    "docci_cn": "DOCCI-CN/image_caption_trans.txt",
}
COLORS = {"红": "red", "蓝": "blue", "绿": "green"}


class ChineseColorModel(ColorModel):
    """Reads the three Chinese color words."""

    def _read(self, text: str) -> torch.Tensor:
        return super()._read(" ".join(COLORS.get(letter, letter) for letter in text))


@pytest.fixture
def model() -> ChineseColorModel:
    return ChineseColorModel()


def write_lines(path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("task", LONG)
def test_long_captions_find_images_by_the_end_of_their_path(tmp_path, paint, model, task):
    folder = tmp_path / LONG[task].split("/")[0] / "images"
    # Two of one file name, which only the folder before it tells apart.
    for name, color in {"a/1.jpg": "red", "b/1.jpg": "blue", "2.jpg": "green"}.items():
        paint(folder / name, color)
    write_lines(
        tmp_path / LONG[task],
        f"/hbox2dir/data/{task}/images/a/1.jpg\t这张图片展示了一面红色的墙,没有文字。",
        "images/b/1.jpg\t图片中有一面蓝色的墙,上面写着“LOUIS LAFON”。",
        "2.jpg\t一片绿色的草地。",
    )
    result = run(model, task, data=tmp_path)
    assert values(result)["i2t_R@1"] == values(result)["t2i_R@1"] == 1.0
    assert result.data["images"] == result.data["captions"] == 3
    assert result.settings["text"] == "long, as written"


def flickr30k_cna(tmp_path, paint, file: str = "flickr30k_cna/flickr30k_cna_test.txt") -> None:
    lines = []
    for number, (word, color) in enumerate(COLORS.items(), 1001):
        paint(tmp_path / f"flickr30k/flickr30k-images/{number}.jpg", color)
        lines += [f"{number}#{i}\t第{number - 1000}张,第{i}句:{word}色的T恤。" for i in range(5)]
    write_lines(tmp_path / file, *lines)


@pytest.mark.parametrize("file", ["flickr30k_cna/flickr30k_cna_test.txt", "flickr30k_cna/test/flickr30k_cna_test.txt"])
def test_flickr30k_cna_joins_the_captions_of_an_image(tmp_path, paint, model, file):
    flickr30k_cna(tmp_path, paint, file)
    result = run(model, "flickr30k_cna", data=tmp_path)
    assert (result.data["images"], result.data["captions"]) == (3, 15)
    assert values(result)["i2t_R@1"] == values(result)["t2i_R@1"] == 1.0
    assert result.settings["text"] == "short, as written"


def test_coco_cn_by_translated_and_by_written_captions(tmp_path, paint, model):
    names = {"红": "COCO_val2014_000000000007", "蓝": "COCO_train2014_000000000009", "绿": "COCO_val2014_000000000011"}
    translated, written = [], []
    for word, name in names.items():
        paint(tmp_path / f"coco/{name.split('_')[1]}/{name}.jpg", COLORS[word])
        translated += [f"{name}#zhm#{i} 第{i}句 {word}色的墙" for i in range(5)]  # blanks, as published
        written += [f"{name}#0\t{word}色的墙", f"{name}#1\t一面{word}墙"]
    folder = tmp_path / "coco-cn"
    write_lines(folder / "imageid.manually-translated-caption.txt", *translated)
    write_lines(folder / "imageid.human-written-caption.txt", *written)
    write_lines(folder / "coco-cn_test.txt", *list(names.values())[:2])
    result = run(model, "coco_cn", data=tmp_path)
    assert (result.data["images"], result.data["captions"]) == (3, 15)
    assert values(result)["i2t_R@1"] == values(result)["t2i_R@1"] == 1.0
    assert result.settings["text"] == "short"  # the published script lower-cases here alone
    other = {"annotations": "coco-cn/imageid.human-written-caption.txt", "ids": "coco-cn/coco-cn_test.txt"}
    result = run(model, "coco_cn", data=tmp_path, **other)
    assert (result.data["images"], result.data["captions"]) == (2, 4)
    assert result.settings["options"] == other


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("folder", ["BoxClass-CN", "BoxClass-CN/jsonfile"])
def test_boxclass_cn_with_and_without_declared_sizes(tmp_path, paint, model, sizes, folder):
    paint(
        tmp_path / "BoxClass-CN/images/000010.jpg",
        "white",
        ("red", (0, 0, 40, 64)),
        ("blue", (40, 0, 80, 64)),
        size=(80, 64),
    )
    size = {"width": 80, "height": 64} if sizes else {}
    boxes = [([0, 0, 40, 64], 1), ([40, 0, 40, 64], 2), ([0, 32, 40, 32], 3)]  # the third is called green and is red
    content = {
        "images": [{"id": 1, "file_name": "000010.jpg", **size}],
        "annotations": [{"id": i, "image_id": 1, "bbox": b, "category_id": c} for i, (b, c) in enumerate(boxes)],
        "categories": [{"id": i, "name": f"{word}色"} for i, word in enumerate(COLORS, 1)],
    }
    write_json(tmp_path / folder / "valid_category_data_total_zh.json", content)
    result = run(model, "boxclass_cn", data=tmp_path)
    assert result.scores["top1"].value == pytest.approx(2 / 3)
    assert result.settings["templates"] == "bare (1)"
    assert sorted(model.texts_encoded) == sorted(f"{word}色" for word in COLORS)  # bare names


@pytest.mark.parametrize("task", [*LONG, "flickr30k_cna", "coco_cn"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COCO_val2014_000000000007#0\t", "entry is malformed"),
        ("COCO_val2014_000000000007", "entry is malformed"),
        ("../../COCO_val2014_000000000008#0\t红", "could leave its root"),
    ],
)
def test_broken_lines_are_named(tmp_path, model, task, line, message):
    annotations = tmp_path / TASKS[task].annotations
    write_lines(annotations, "COCO_val2014_000000000007#0\t红色的墙", line)
    (tmp_path / TASKS[task].images).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"task {task}: .*{annotations.name}, line 2") as caught:
        run(model, task, data=tmp_path)
    assert message in str(caught.value)
    assert TASKS[task].wants in str(caught.value)


def test_files_that_are_no_text_or_name_nothing(tmp_path, paint, model):
    flickr30k_cna(tmp_path, paint)
    file = tmp_path / "flickr30k_cna/flickr30k_cna_test.txt"
    file.write_bytes("1001#0\t红".encode("gb18030"))
    with pytest.raises(ValueError, match=r"flickr30k_cna_test\.txt is not UTF-8 text"):
        run(model, "flickr30k_cna", data=tmp_path)
    file.write_text("\n\n")
    with pytest.raises(ValueError, match="all of 0 images have no caption"):
        run(model, "flickr30k_cna", data=tmp_path)
    write_lines(tmp_path / "coco-cn/imageid.manually-translated-caption.txt", "7#zhm#0 红")
    (tmp_path / "coco").mkdir()
    with pytest.raises(ValueError, match="an id of COCO-CN is such as"):
        run(model, "coco_cn", data=tmp_path)


def test_missing_and_corrupt_images_are_counted_as_in_the_other_tasks(tmp_path, paint, model):
    flickr30k_cna(tmp_path, paint)
    images = tmp_path / "flickr30k/flickr30k-images"
    (images / "1001.jpg").unlink()
    (images / "1002.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="1 of 3 images are missing"):
        run(model, "flickr30k_cna", data=tmp_path)
    result = run(model, "flickr30k_cna", data=tmp_path, allow_missing=True)
    assert result.data["images_missing"] == result.data["images_corrupt"] == 1
    assert result.data["images"] == 1


def test_caption_lines_keep_letters_that_look_like_ends_of_lines(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffa b.jpg\t一\u2028二\x0b三\r\na b.jpg\t四\r\n".encode())
    (entry,) = read_caption_lines(file, Report("raise"))
    assert (entry.path, entry.captions) == ("a b.jpg", ["一\u2028二\x0b三", "四"])
    assert entry.where == "lines.txt, line 1"


@pytest.fixture
def cased_processor():
    """Its tokenizer leaves letters as they are, as the one of published checkpoints."""
    processor = make_fgclip2_processor()
    processor.tokenizer.backend_tokenizer.normalizer = None
    return processor


def test_fgclip2_is_given_what_the_published_protocols_give(tiny_fgclip2, fgclip2_processor, tmp_path, paint):
    adapter = adapter_for(tiny_fgclip2, fgclip2_processor)
    texts, grids = [], []

    class Spy(type(adapter)):
        def _tokenize(self, given, kind, lower_case):
            texts.extend((text, kind, lower_case) for text in given)
            return super()._tokenize(given, kind, lower_case)

        def encode_images(self, inputs):
            grids.append(inputs["spatial_shapes"].tolist())
            return super().encode_images(inputs)

    spy = Spy(tiny_fgclip2, fgclip2_processor)
    write_lines(tmp_path / "LIT-CN/image_caption_long_cn.txt", "a.jpg\t一件T恤", "b.jpg\t一件A恤")
    paint(tmp_path / "LIT-CN/images/a.jpg", "red", size=(64, 96))
    paint(tmp_path / "LIT-CN/images/b.jpg", "blue", size=(64, 96))
    result = evaluate_model(spy, tasks={"lit_cn": {"data": tmp_path}}, progress=False)["lit_cn"]
    assert sorted(texts) == [("一件A恤", "long", False), ("一件T恤", "long", False)]
    assert grids == [[[6, 4], [6, 4]]]  # the budget by image, at its aspect
    assert result.settings["resolution"] == "up to 16/24/36 patches of 16×16"

    names = tmp_path / "names.txt"
    names.write_text("Red\nBlue\n")
    for place, color in enumerate(("red", "blue")):
        paint(tmp_path / f"imagenet/val/{place}/a.JPEG", color, size=(64, 64))
    options = {"data": tmp_path, "names": str(names), "templates": "bare"}
    result = evaluate_model(spy, tasks={"imagenet": options}, progress=False)["imagenet"]
    assert grids[1:] == [[[6, 6], [6, 6]]]  # the largest budget for every image, here 36, published 1,024
    assert result.settings["resolution"] == "36 patches of 16×16"
    assert ("Red", "short", True) in texts


def test_a_budget_that_the_user_set_is_obeyed_for_classes_too(tiny_fgclip2):
    processor = make_fgclip2_processor()
    processor.image_processor.max_num_patches = 9
    adapter = adapter_for(tiny_fgclip2, processor)
    assert adapter.preprocess_for_classes([Image.new("RGB", (64, 64))])["spatial_shapes"].tolist() == [[3, 3]]
    assert adapter.settings_for_classes() == {"resolution": "9 patches of 16×16"}


def test_published_checkpoints_have_a_budget_of_1024_for_classes(tiny_fgclip2, fgclip2_processor):
    processor = FGCLIP2Processor(FGCLIP2ImageProcessor(), fgclip2_processor.tokenizer)
    adapter = adapter_for(tiny_fgclip2, processor)
    assert adapter.preprocess_for_classes([Image.new("RGB", (64, 64))])["spatial_shapes"].tolist() == [[32, 32]]


def test_one_text_as_written_and_lower_cased_are_two(tiny_fgclip2, cased_processor):
    embedder = Embedder(adapter_for(tiny_fgclip2, cased_processor), distributed=False, progress=False)
    written, lowered = embedder.texts(["A Dog"], as_written=True), embedder.texts(["A Dog"])
    assert not torch.equal(written, lowered)
    assert torch.equal(lowered, embedder.texts(["a dog"], as_written=True))


def test_chinese_tasks_are_listed_with_their_files():
    listed = json.dumps({name: task.wants for name, task in TASKS.items()})
    for name in (*LONG, "flickr30k_cna", "coco_cn", "boxclass_cn"):
        assert name in TASKS
    assert listed.count("huggingface.co/datasets/qihoo360/") >= 4
