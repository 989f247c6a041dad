"""Boxes: suppression and filters against naive ones, detectors on tiny random weights."""

import pytest
import torch

from dataset_scripts.curation.models.boxes import iou, non_maximum_suppression
from dataset_scripts.curation.models.detectors import Detections, make_detector
from dataset_scripts.curation.steps.grounding import Grounding, GroundingSettings, select
from tests.dataset_scripts.curation.curation_models import COLORS, SHAPES, scene, write_grounding_dino, write_owlv2

TEXTS = [{"short": "a red ball", "long": "a red ball on a table"}, {"short": "a table", "long": "a table"}]


def naive_nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def test_iou_in_closed_form():
    assert iou([0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 / 7)
    assert iou([0, 0, 1, 1], [1, 1, 2, 2]) == 0
    assert iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression_is_the_naive_one(threshold):
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(60, 2, generator=generator) * 0.6, torch.rand(60, 2, generator=generator) * 0.4
    boxes, scores = torch.cat([corner, corner + side], 1), torch.rand(60, generator=generator)
    assert non_maximum_suppression(boxes, scores, threshold) == naive_nms(boxes.tolist(), scores.tolist(), threshold)
    assert non_maximum_suppression(torch.zeros(0, 4), torch.zeros(0), 0.5) == []


def detections(*rows):
    """(box, score, expression)"""
    return Detections(torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows]), [r[2] for r in rows])


def boxes_of(found, **settings):
    return [(r["bbox"], r["short_expr"]) for r in select(found, TEXTS, GroundingSettings(**settings))]


def test_scores_sizes_and_edges_are_filtered():
    whole, small = [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.501, 0.9]
    found = detections(
        ([-0.25, 0.5, 0.5, 1.5], 0.9, 0), (small, 0.8, 0), (whole, 0.4, 1), ([0.6, 0.1, 0.2, 0.3], 0.9, 1),
        ([float("nan")] * 4, 0.9, 0),
    )  # fmt: skip
    assert boxes_of(found) == [([0.0, 0.5, 0.5, 1.0], "a red ball")]  # clipped; 0.4 is not above 0.4
    assert boxes_of(found, threshold=0.3)[1] == (whole, "a table")
    assert boxes_of(found, threshold=0.3, max_area=0.9) == boxes_of(found)


def test_one_object_one_box_over_expressions_unless_asked_otherwise():
    box, near = [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.45]
    found = detections((box, 0.8, 0), (near, 0.9, 1), ([0.5, 0.5, 1.0, 1.0], 0.7, 0))
    assert [e for _, e in boxes_of(found)] == ["a table", "a red ball"]
    assert [e for _, e in boxes_of(found, class_agnostic=False)] == ["a table", "a red ball"]
    assert [e for _, e in boxes_of(found, class_agnostic=False, max_per_expression=2)] == [
        "a table",
        "a red ball",
        "a red ball",
    ]
    assert len(boxes_of(found, class_agnostic=False, max_per_expression=2, max_regions=1)) == 1


@pytest.fixture(scope="module", params=[write_owlv2, write_grounding_dino], ids=["owlv2", "grounding-dino"])
def detector(request, tmp_path_factory):
    return make_detector(str(request.param(tmp_path_factory.mktemp("detector"))), device="cpu")


def test_detectors_give_each_box_one_of_the_image_s_expressions(detector):
    """Images have different numbers of expressions, and more than fit one prompt of Grounding DINO."""
    images = [scene(i)[0] for i in range(3)]
    many = [f"a {color} {shape}{where}" for color in COLORS for shape in SHAPES for where in ("", " on a table")]
    texts = [["a red ball", "a green table"], ["a red ball"], many]
    together = detector.detect(images, texts, 0.0)
    for expressions, found in zip(texts, together, strict=True):
        assert set(found.expressions) <= set(range(len(expressions)))
        assert len(found.boxes) == len(found.scores) == len(found.expressions) > 0
    if type(detector).__name__ == "GroundingDinoDetector":
        assert len(detector._prompts(many)) > 1
        assert [i for _, part in detector._prompts(many) for i in part] == many
        first = [i for i, _ in detector._prompts(many)]
        assert {sum(e >= i for i in first) for e in together[2].expressions} == set(range(1, len(first) + 1))
    else:  # OWLv2 fills up with blanks, which must not win a box
        for image, expressions, found in zip(images, texts, together, strict=True):
            (alone,) = detector.detect([image], [expressions], 0.0)
            assert alone.expressions == found.expressions
            torch.testing.assert_close(alone.scores, found.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.boxes, found.boxes, rtol=1e-4, atol=1e-5)
    assert len(detector.detect(images[:1], texts[:1], 1.0)[0].boxes) == 0


def test_owl_boxes_are_fractions_of_the_image_not_of_its_padded_square(tmp_path):
    """OWLv2 pads to a square below and right: on a flat image the grid reaches beyond the lower edge."""
    detector = make_detector(str(write_owlv2(tmp_path)), device="cpu")
    (square,) = detector.detect([scene(0)[0]], [["a red ball"]], 0.0)
    (flat,) = detector.detect([scene(0)[0].resize((64, 32))], [["a red ball"]], 0.0)
    assert float(square.boxes[:, 3].max()) < 1.3
    assert 2.0 < float(flat.boxes[:, 3].max()) < 2.6
    assert float(flat.boxes[:, 2].max()) < 1.3


def test_step_keeps_given_regions_and_reports_images_without_any(tmp_path):
    step = Grounding(GroundingSettings(detector=str(write_owlv2(tmp_path)), device="cpu", threshold=0.4, batch_size=2))
    own = {"bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0, "short_expr": "x", "long_expr": None, "negatives": []}
    batch = {
        "source_id": ["a", "b", "c"],
        "image": [scene(i)[0] for i in range(3)],
        "expressions": [TEXTS, [], TEXTS],
        "regions": [[own], [own], []],
        "failures": [[], [], []],
    }
    result = step(batch)
    assert result["regions"][0][0] == own
    assert len(result["regions"][0]) > 1
    assert result["regions"][1] == [own]
    assert all(0 <= v <= 1 for r in result["regions"][2] for v in r["bbox"])
    nothing = Grounding(GroundingSettings(threshold=1.0), detector=step.detector)(batch)
    assert nothing["failures"] == [["grounding: nothing found"], [], ["grounding: nothing found"]]
    assert (
        Grounding(GroundingSettings(threshold=1.0, keep_regions=False), detector=step.detector)(batch)["regions"]
        == [[]] * 3
    )


def test_wrong_models_are_explained(tmp_path):
    from tests.dataset_scripts.curation.curation_models import write_chat_model

    with pytest.raises(ValueError, match="is a 'llama' model"):
        make_detector(str(write_chat_model(tmp_path)))
    with pytest.raises(ValueError, match="is a pickle"):
        make_detector("yolov8x-worldv2.pt")
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        GroundingSettings(threshold=1.5)
    with pytest.raises(ValueError, match="ground is"):
        GroundingSettings(ground="middle")
