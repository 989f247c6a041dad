"""LLaVA's text and loss mask, written out by hand from its protocol; rows that it would pass over in silence."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoProcessor, AutoTokenizer, LlavaProcessor, PreTrainedTokenizerFast

from tests.conftest import CAPTIONS
from tests.training.llava.conftest import row
from training.llava.batches import ModalityBatches
from training.llava.build import build_llava
from training.llava.checks import check_fits, check_length, check_template
from training.llava.collator import LlavaCollator
from training.llava.data import CAPTIONS as CAPTION_FEATURES
from training.llava.data import MESSAGES, finetune_example, load_examples, pretrain_example
from training.llava.template import VICUNA_V1

START = (
    "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)
# By conversation.py and train.py of haotian-liu/LLaVA: text, and what the loss sees of it.
CONVERSATIONS = {
    1: (
        "USER: <image>\nwhat color is square 0? ASSISTANT: green</s>",
        [" green</s>"],
    ),
    2: (
        "USER: <image>\nwhat color is square 0? ASSISTANT: green</s>"
        "USER: what color is square 1? ASSISTANT: it is green</s>",
        [" green</s>", " it is green</s>"],
    ),
    3: (
        "USER: <image>\nwhat color is square 0? ASSISTANT: green</s>"
        "USER: what color is square 1? ASSISTANT: it is green</s>"
        "USER: what color is square 2? ASSISTANT: green</s>",
        [" green</s>", " it is green</s>", " green</s>"],
    ),
}
PATCHES = 16


def learned(processor: LlavaProcessor, batch: dict[str, torch.Tensor], place: int = 0) -> list[str]:
    """The runs of tokens that the loss sees, as text."""
    runs, before = [], False
    for token, label in zip(batch["input_ids"][place].tolist(), batch["labels"][place].tolist(), strict=True):
        if label != -100:
            assert label == token
            runs = [*runs[:-1], [*runs[-1], token]] if before else [*runs, [token]]
        before = label != -100
    return [processor.tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("turns", CONVERSATIONS)
@pytest.mark.parametrize("image", [True, False])
def test_text_and_loss_mask_are_llavas(llava, conversations, turns, image):
    processor = AutoProcessor.from_pretrained(llava)
    collate = LlavaCollator(processor, conversations / "images", 512, completions=False)
    batch = collate([finetune_example(row(1, turns, image))])
    text, answers = CONVERSATIONS[turns]
    text = START + (text if image else text.replace("<image>\n", ""))
    expected = text.replace("<image>", "<image>" * PATCHES)
    assert processor.tokenizer.decode(batch["input_ids"][0]) == expected
    assert learned(processor, batch) == answers
    assert ("pixel_values" in batch) == image


def test_rows_of_a_batch_are_padded_and_masked_each_for_itself(llava, conversations):
    processor = AutoProcessor.from_pretrained(llava)
    collate = LlavaCollator(processor, conversations / "images", 512, completions=False)
    examples = [finetune_example(row(1, turns, image)) for turns, image in ((3, False), (1, True), (2, True))]
    batch = collate(examples)
    assert [learned(processor, batch, place) for place in range(3)] == [CONVERSATIONS[n][1] for n in (3, 1, 2)]
    assert batch["pixel_values"].shape[0] == 2
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_pretraining_is_image_caption_and_newline(llava, conversations):
    """conversation.py: conv_llava_plain; the question is thrown away."""
    processor = AutoProcessor.from_pretrained(llava)
    collate = LlavaCollator(processor, conversations / "images", 512, completions=True)
    batch = collate([pretrain_example(row(1), start="<s>")])
    assert processor.tokenizer.decode(batch["input_ids"][0]) == "<s>" + "<image>" * PATCHES + "green\n"
    assert learned(processor, batch) == ["green\n"]


def test_the_image_comes_before_its_question_wherever_it_stood():
    given = row(1)
    given["conversations"][0]["value"] = " what is it?\n<image>"
    assert finetune_example(given)["messages"][0] == {"role": "user", "content": "what is it?"}
    given["conversations"].insert(0, {"from": "gpt", "value": "an answer to nothing"})
    assert [turn["content"] for turn in finetune_example(given)["messages"]] == ["what is it?", "green"]


def sentencepiece_like(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer like Vicuna's: a word carries the space before it as its first character."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special[:3], show_progress=False)
    )
    backend.add_tokens(special[3:])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_an_answers_first_token_carries_its_space_in_vicunas_way(llava, conversations):
    tokenizer = sentencepiece_like([*CAPTIONS, START, "USER: what color is square ASSISTANT: green it is"] * 3)
    processor = build_llava(llava.parent / "fgclip", llava.parent / "lm", tokenizer)[1]
    check_template(processor)
    batch = LlavaCollator(processor, conversations / "images", 512, False)([finetune_example(row(1, 2))])
    tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0][batch["labels"][0] != -100].tolist())
    assert "".join(tokens) == "▁green</s>▁it▁is▁green</s>"
    assert tokens[0].startswith("▁")


BAD = {
    "roles must alternate": lambda r: r["conversations"].append(r["conversations"][-1]),
    "this one has 2 <image>": lambda r: r["conversations"][0].update(value="<image>\n<image>\nwhat?"),
    "stands in turn 3": lambda r: (
        r["conversations"][0].update(value="what?"),
        r["conversations"].extend([{"from": "human", "value": "<image>\nand?"}, {"from": "gpt", "value": "b"}]),
    ),
    "the row names no image": lambda r: r.pop("image"),
    "its text has no <image>": lambda r: r["conversations"][0].update(value="what?"),
    "the last question has no answer": lambda r: r["conversations"].pop(),
    "a turn of the user is empty": lambda r: r["conversations"][0].update(value="<image>\n"),
    "no question": lambda r: r.update(conversations=[]),
    "which is no text": lambda r: r["conversations"][1].update(value=7),
    "could leave its root": lambda r: r.update(image="../secret.png"),
    "is missing": lambda r: r.update(image="some/9.png"),
    "one image at most": lambda r: r.update(image=["some/1.png", "some/2.png"]),
    "a row is": lambda r: r.pop("conversations"),
    "KeyError": lambda r: r["conversations"][0].pop("from"),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_rows_stop_or_are_counted(conversations, tmp_path, reason):
    bad = row(1)
    BAD[reason](bad)
    file = tmp_path / "data.json"
    file.write_text(json.dumps([row(0), bad, row(2)]))
    with pytest.raises(ValueError, match=r"row cannot be trained on in .*row 1") as error:
        load_examples([file], conversations / "images", finetune_example, MESSAGES)
    assert reason in str(error.value)
    rows, report = load_examples([file], conversations / "images", finetune_example, MESSAGES, "skip")
    assert len(rows) == 2
    assert report.problems == {"row cannot be trained on": 1}


def test_rows_that_pretraining_cannot_use(conversations, tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps([row(0, turns=2), row(1, image=False), {**row(2), "conversations": []}]) + "\n{,")
    with pytest.raises(ValueError, match="holds no row to train on"):
        load_examples([file], conversations / "images", lambda r: pretrain_example(r, "<s>"), CAPTION_FEATURES, "skip")
    for name, folder in ((tmp_path / "none.json", conversations / "images"), (file, tmp_path / "none")):
        with pytest.raises(ValueError, match=r"which is no (file|folder)"):
            load_examples([name], folder, finetune_example, MESSAGES)


def test_a_damaged_image_is_named(llava, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "1.png").write_bytes(b"\x89PNG no more")
    collate = LlavaCollator(AutoProcessor.from_pretrained(llava), tmp_path, 512, completions=False)
    with pytest.raises(ValueError, match=r"some/1.png cannot be read"):
        collate([finetune_example(row(1))])


def test_a_template_must_mark_answers_and_their_end(llava):
    processor = AutoProcessor.from_pretrained(llava)
    check_template(processor)
    without = VICUNA_V1.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    outside = VICUNA_V1.replace(" + eos_token -}}{%- endgeneration -%}", " -}}{%- endgeneration -%}{{- eos_token -}}")
    for template, message in ((without, r"has no \{% generation %\}"), (outside, "never learn to stop")):
        assert template != VICUNA_V1
        processor.chat_template = template
        with pytest.raises(ValueError, match=message):
            check_template(processor)


def test_a_length_must_hold_image_prompt_and_an_answer(llava):
    processor = AutoProcessor.from_pretrained(llava)
    words = len(processor.tokenizer("<s>", add_special_tokens=False)["input_ids"])
    check_length(processor, words + PATCHES + 1, "<s><image>")
    check_length(processor, None, "<s><image>")
    with pytest.raises(
        ValueError, match=f"max_length={words + PATCHES}; the first answer .* {PATCHES} of them the image's"
    ):
        check_length(processor, words + PATCHES, "<s><image>")


def test_sizes_of_model_and_processor_must_agree(llava):
    model, processor = build_llava(llava.parent / "fgclip", llava.parent / "lm")
    check_fits(model, processor)
    processor.image_processor.crop_size = {"height": 56, "width": 56}
    with pytest.raises(ValueError, match="The processor has 56 pixels a side and the model 64"):
        check_fits(model, processor)
    processor = build_llava(llava.parent / "fgclip", llava.parent / "lm", image_fit="squash")[1]
    check_fits(model, processor)
    processor.num_additional_image_tokens = 0
    with pytest.raises(ValueError, match="The processor has 15 tokens an image and the model 16"):
        check_fits(model, processor)
    processor.num_additional_image_tokens = 1
    model.config.image_token_index = 7
    with pytest.raises(ValueError, match=r"id of <image> and the model 7"):
        check_fits(model, processor)
    tokenizer = AutoTokenizer.from_pretrained(llava)
    tokenizer.add_tokens([f"new{number}" for number in range(80)])
    model.config.image_token_index = processor.tokenizer.convert_tokens_to_ids("<image>")
    processor.tokenizer = tokenizer
    with pytest.raises(ValueError, match=r"481 tokens and the model 448 embeddings"):
        check_fits(model, processor)


def steps_of(batches: list[ModalityBatches]) -> list[list[int]]:
    """Rows of each step of all ranks together."""
    ranks = [list(one) for one in batches]
    size = batches[0].accumulation
    return [
        sorted(row for rank in ranks for batch in rank[start : start + size] for row in batch)
        for start in range(0, len(ranks[0]), size)
    ]


def test_steps_hold_one_kind_and_are_the_same_for_any_number_of_processes():
    has_image = [number % 3 != 0 for number in range(100)]
    lengths = [(number * 37) % 50 for number in range(100)]
    one = ModalityBatches(has_image, lengths, batch_size=4, accumulation=2)
    ranks = [ModalityBatches(has_image, lengths, 2, 2, rank=rank, world_size=2) for rank in range(2)]
    assert len(one) == len(list(one)) == len(list(ranks[0])) == len(ranks[0])
    steps = steps_of([one])
    assert steps == steps_of(ranks)
    kinds = [{has_image[row] for row in step} for step in steps]
    assert sum(len(kind) == 2 for kind in kinds) <= 1
    assert {frozenset(kind) for kind in kinds} >= {frozenset([True]), frozenset([False])}
    rows = [row for step in steps for row in step]
    assert len(rows) == len(set(rows)) == 96
    for first, second in zip(*map(list, ranks), strict=True):
        assert any(has_image[row] for row in first) == any(has_image[row] for row in second)
        assert abs(sum(lengths[r] for r in first) - sum(lengths[r] for r in second)) <= 50
    for batches in (one, *ranks):
        before = list(batches)
        assert list(batches) == before
        batches.set_epoch(1)
        assert list(batches) != before


def test_within_a_step_batches_are_of_like_length():
    lengths = list(range(64))
    for start, batch in enumerate(ModalityBatches([True] * 64, lengths, batch_size=4, accumulation=16)):
        assert max(batch) - min(batch) == 3, start


def test_too_few_rows_for_a_step():
    with pytest.raises(
        ValueError, match="There are 3 rows, fewer than a step of 1 batches of 2 on each of 2 processes"
    ):
        ModalityBatches([True, True, False], [1, 2, 3], 2, world_size=2)


def test_every_row_of_the_fixture_is_usable(conversations: Path):
    rows, report = load_examples(
        [conversations / "instruct.json"], conversations / "images", finetune_example, MESSAGES
    )
    assert report.kept == {"rows with an image": 18, "rows of text alone": 6}
    assert len(rows) == 24
