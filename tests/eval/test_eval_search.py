"""Search: exact results against brute force, resuming, refusal of other models."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eval.adapters.fgclip import FGCLIPAdapter
from eval.embed import Embedder
from eval.images import ImageFile
from eval.search.build import build, grid_boxes
from eval.search.source import open_collection

faiss = pytest.importorskip("faiss", reason="needs the extra search")

from eval.search.index import SearchIndex  # noqa: E402


@pytest.fixture
def embedder(tiny_model, processor) -> Embedder:
    adapter = FGCLIPAdapter(tiny_model, processor)
    return Embedder(adapter, batch_size=4, allow_missing=True, distributed=False, progress=False)


@pytest.fixture
def photos(tmp_path):
    """Eleven readable images in two folders, and a broken one."""
    generator = np.random.default_rng(0)
    for number in range(11):
        path = tmp_path / "photos" / f"folder{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = generator.integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((50, 40), Image.Resampling.NEAREST).save(path)
    (tmp_path / "photos" / "folder0" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_queries_agree_with_brute_force(embedder, photos, tmp_path):
    collection = open_collection(str(photos))
    summary = build(collection, embedder, tmp_path / "index", shard_size=5)
    assert (summary.images, summary.unreadable, summary.vectors) == (12, 1, 11)
    index = SearchIndex(tmp_path / "index", embedder)
    readable = [path for path in sorted(photos.rglob("*.png")) if path.name != "broken.png"]
    model, processor = embedder.adapter.model, embedder.adapter.processor
    with torch.no_grad():
        pixels = processor(images=[Image.open(path).convert("RGB") for path in readable])["pixel_values"]
        images = torch.nn.functional.normalize(model.get_image_features(pixels), dim=-1)
        text = torch.nn.functional.normalize(model.get_text_features(**processor(text="a red star")), dim=-1)
        long = processor(text="a red star and a dog", long_text=True)
        long = torch.nn.functional.normalize(model.get_text_features(**long), dim=-1)
    for query, hits in (
        (text[0], index.by_text("a red star")),
        (long[0], index.by_text("a red star and a dog", long=True)),
    ):
        scores = images @ query
        expected = [str(readable[row].relative_to(photos)) for row in scores.argsort(descending=True)[:10]]
        assert [hit.name for hit in hits] == expected
        np.testing.assert_allclose([hit.score for hit in hits], scores.sort(descending=True).values[:10], atol=2e-3)
    first = Image.open(readable[3])
    assert index.by_image(first, top=3)[0].name == str(readable[3].relative_to(photos))


def test_grid_finds_the_region_it_holds(embedder, photos, tmp_path):
    collection = open_collection(str(photos))
    summary = build(collection, embedder, tmp_path / "index", grid=2)
    assert summary.vectors == 11 * 5
    index = SearchIndex(tmp_path / "index", embedder)
    path = sorted(photos.rglob("0*.png"))[2]
    cell = grid_boxes(2)[3]
    image = ImageFile(path).open()
    (best, *others) = index.by_region(image, cell * np.array([image.width, image.height] * 2), top=4)
    assert best.name == str(path.relative_to(photos))
    assert best.box == pytest.approx(cell.tolist())
    assert best.score == pytest.approx(1, abs=2e-3)
    assert len({hit.name for hit in [best, *others]}) == 4


def test_resumes_at_the_missing_shard(embedder, photos, tmp_path):
    collection = open_collection(str(photos))
    build(collection, embedder, tmp_path / "index", shard_size=4)
    shards = sorted((tmp_path / "index" / "embeddings").glob("*.parquet"))
    assert len(shards) == 3
    before = [pq.read_table(shard) for shard in shards]
    shards[1].unlink()
    kept = shards[0].stat().st_mtime_ns
    assert build(collection, embedder, tmp_path / "index", shard_size=4).embedded_now == 4
    assert [pq.read_table(shard) for shard in shards] == before
    assert shards[0].stat().st_mtime_ns == kept


def test_other_weights_and_other_images_are_refused(embedder, photos, tmp_path, tiny_model, processor):
    build(open_collection(str(photos)), embedder, tmp_path / "index")
    with torch.no_grad():
        tiny_model.logit_scale.add_(1)
    other = Embedder(FGCLIPAdapter(tiny_model, processor), distributed=False, progress=False)
    with pytest.raises(ValueError, match="other weights"):
        SearchIndex(tmp_path / "index", other)
    with pytest.raises(ValueError, match="weights changed"):
        build(open_collection(str(photos)), other, tmp_path / "index")
    with pytest.raises(ValueError, match="holds no image"):
        open_collection(str(tmp_path / "index"))


def test_trained_index(embedder, photos, tmp_path):
    """An approximate index that looks everywhere finds what the exact one finds."""
    summary = build(open_collection(str(photos)), embedder, tmp_path / "index", grid=2, index_type="IVF1,Flat")
    assert summary.vectors == 55
    exact = tmp_path / "exact"
    build(open_collection(str(photos)), embedder, exact, grid=2)
    hits = [SearchIndex(folder, embedder).by_text("a dog") for folder in (tmp_path / "index", exact)]
    assert [hit.name for hit in hits[0]] == [hit.name for hit in hits[1]]
