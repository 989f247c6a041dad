import pytest
import torch

from tests.training.records import make_record
from training.data.augmentation import Augmentation
from training.data.collator import NO_TEXT, FGCLIPCollator


def decoded(processor, batch) -> list[str]:
    packed = batch["packed_texts"]
    input_ids = packed["input_ids"] if packed["nodes"] is None else packed["input_ids"][packed["nodes"]]
    texts = input_ids.split(packed["cu_seqlens"].diff().tolist())
    words = [processor.tokenizer.decode(text, skip_special_tokens=True) for text in texts]
    return [words[place] for place in packed["restore"].tolist()]


def test_stage_1_batch(processor):
    batch = FGCLIPCollator(processor, max_regions=0)([make_record(0), make_record(1)])
    texts = decoded(processor, batch)
    assert batch["pixel_values"].shape == (2, 3, 64, 64)
    assert "boxes" not in batch
    assert [texts[row] for row in batch["short_index"]] == [
        "a photo of a star and 0 birds",
        "a photo of a circle and 1 birds",
    ]
    assert texts[batch["long_index"][0]].startswith("the photo shows a red star")
    is_long = batch["packed_texts"]["long_text"][batch["packed_texts"]["restore"]]
    assert is_long[batch["long_index"]].all()
    assert not is_long[batch["short_index"]].any()


def test_regions_and_their_negatives(processor):
    records = [make_record(0, regions=2, negatives=3), make_record(1), make_record(2, regions=1)]
    records[2]["regions"][0]["short_expr"] = None
    records[2]["regions"][0]["negatives"] = ["a wrong one"]
    batch = FGCLIPCollator(processor)(records)
    texts = decoded(processor, batch)
    assert (batch["region_index"] != NO_TEXT).tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True, False, False, False],
    ]
    assert batch["hard_region_index"].tolist() == [0, 1]  # without a short expression there is nothing to rewrite
    for place, row in zip(batch["hard_region_index"], batch["hard_index"], strict=True):
        region = records[place // 4]["regions"][place % 4]
        assert [texts[index] for index in row] == [region["short_expr"], *region["negatives"]]
        assert texts[batch["region_index"][place // 4, place % 4]] in (region["short_expr"], region["long_expr"])
    assert batch["boxes"][0, 1].tolist() == pytest.approx(records[0]["regions"][1]["bbox"])


def test_identical_texts_are_encoded_once(processor):
    record = make_record(0, regions=1, negatives=10)
    batch = FGCLIPCollator(processor)([record, record, record])
    assert len(batch["packed_texts"]["restore"]) == len(set(decoded(processor, batch)))
    assert batch["short_index"].unique().numel() == 1


def test_ragged_negatives_are_padded(processor):
    batch = FGCLIPCollator(processor)([make_record(0, 1, 10), make_record(1, 1, 2)])
    assert (batch["hard_index"] != NO_TEXT).sum(1).tolist() == [11, 3]


def test_no_region_and_no_negative(processor):
    batch = FGCLIPCollator(processor)([make_record(0), make_record(1, regions=1)])
    assert batch["hard_region_index"].shape == (0,)
    assert batch["hard_index"].shape == (0, 2)


def test_missing_captions(processor):
    records = [make_record(0), make_record(1)]
    records[0]["caption"], records[1]["short_captions"] = None, []
    batch = FGCLIPCollator(processor, max_regions=0)(records)
    assert (batch["long_index"] == NO_TEXT).tolist() == [True, False]
    assert (batch["short_index"] == NO_TEXT).tolist() == [False, True]


def test_a_batch_without_text_is_refused(processor):
    with pytest.raises(ValueError, match="record-0"):
        FGCLIPCollator(processor, max_regions=0)([{**make_record(0), "caption": None, "short_captions": []}])


def test_randomness_depends_on_seed_draw_and_record_alone(processor):
    records = [make_record(number, regions=9) for number in range(3)]
    first, again = FGCLIPCollator(processor)(records), FGCLIPCollator(processor)(records[::-1])
    assert torch.equal(first["boxes"], again["boxes"].flip(0))
    later = FGCLIPCollator(processor)([{**record, "draw": 1} for record in records])
    assert not torch.equal(first["boxes"], later["boxes"])


def test_one_of_several_short_captions_is_drawn_a_visit(processor):
    captions = [f"a photo of a bird {number}" for number in range(5)]
    record = {**make_record(0, regions=9), "short_captions": captions}
    collate = FGCLIPCollator(processor, short_caption_prefix="")

    def drawn(record):
        batch = collate([record])
        return decoded(processor, batch)[batch["short_index"][0]]

    visits = [drawn({**record, "draw": draw}) for draw in range(60)]
    assert visits == [drawn({**record, "draw": draw}) for draw in range(60)]
    counts = {caption: visits.count(caption) for caption in captions}
    assert min(counts.values()) >= 5  # of 12 expected
    # A single caption takes nothing from the record's randomness.
    none, one = ({**record, "short_captions": captions[:number]} for number in (0, 1))
    assert torch.equal(collate([none])["boxes"], collate([one])["boxes"])


def test_equal_pictures_are_known_by_their_pixels(processor):
    records = [make_record(number) for number in range(4)]
    records[2]["image"] = records[0]["image"].copy()
    records[3]["image"] = records[1]["image"].transpose(0)  # as many pixels of the same values
    collate = FGCLIPCollator(processor, augmentation=Augmentation(flip=0.5, min_crop=0.5), identify_pictures=True)
    hashes = collate(records)["picture_hash"].tolist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3
    assert hashes == collate([{**record, "draw": 1} for record in records])["picture_hash"].tolist()
    assert "picture_hash" not in FGCLIPCollator(processor)(records)
