"""Search: exact results against brute force, resuming, refusal of other models."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eval.adapters.fgclip import FGCLIPAdapter
from eval.embed import Embedder
from eval.images import ImageFile
from eval.search.build import build, grid_boxes, read_shards
from eval.search.source import open_collection
from fgclip import command_line
from fgclip.command_line import run_command, set_called_as
from tests.conftest import FIXTURES

faiss = pytest.importorskip("faiss", reason="needs the extra search")

from eval.search.__main__ import main  # noqa: E402
from eval.search.index import Hit, SearchIndex  # noqa: E402
from eval.search.show import as_html  # noqa: E402


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


def test_shards_notice_that_images_changed(embedder, photos, tmp_path, monkeypatch):
    def again():
        return build(open_collection(str(photos)), embedder, tmp_path / "index", shard_size=4)

    assert again().changed_shards == 0
    summary = again()
    assert (summary.embedded_now, summary.changed_shards, summary.unreadable) == (0, 0, 1)
    monkeypatch.chdir(photos.parent)
    assert build(open_collection(photos.name), embedder, tmp_path / "index", shard_size=4).embedded_now == 0
    names = open_collection(str(photos)).names
    last = photos / names[-1]
    last.write_bytes((photos / names[0]).read_bytes())
    summary = again()
    assert (summary.embedded_now, summary.changed_shards, summary.vectors) == (4, 1, 11)
    hits = SearchIndex(tmp_path / "index", embedder).by_image(Image.open(last), top=2)
    assert {hit.name for hit in hits} == {names[0], names[-1]}
    (photos / "folder0/broken.png").write_bytes(last.read_bytes())
    summary = again()
    assert (summary.embedded_now, summary.changed_shards, summary.vectors, summary.unreadable) == (4, 1, 12, 0)
    (tmp_path / "elsewhere").mkdir()
    moved = photos.rename(tmp_path / "elsewhere" / photos.name)
    assert build(open_collection(str(moved)), embedder, tmp_path / "index", shard_size=4).embedded_now == 0


def test_an_index_older_than_its_shards_is_not_searched(embedder, photos, tmp_path, monkeypatch):
    build(open_collection(str(photos)), embedder, tmp_path / "index", shard_size=4)
    os.utime(photos / "folder0/00.png", ns=(1, 1))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(faiss, "write_index", killed)
    with pytest.raises(KeyboardInterrupt):
        build(open_collection(str(photos)), embedder, tmp_path / "index", shard_size=4)
    with pytest.raises(ValueError, match="holds no index"):
        SearchIndex(tmp_path / "index", embedder)


def test_settings_out_of_range_and_indices_that_faiss_refuses(embedder, photos, tmp_path):
    collection = open_collection(str(photos))
    for options, message in (
        ({"grid": -1}, "grid must be at least 0"),
        ({"shard_size": 0}, "shard_size at least 1"),
        ({"index_type": "Round"}, "no index of type 'Round': could not parse index string Round"),
        ({"index_type": "IVF64,Flat"}, "cannot be trained on 11 vectors: Number of training points"),
    ):
        with pytest.raises(ValueError, match=message):
            build(collection, embedder, tmp_path / "index", **options)
    build(collection, embedder, tmp_path / "index")
    with pytest.raises(ValueError, match="at least 1; got 0"):
        SearchIndex(tmp_path / "index", embedder).by_text("a dog", top=0)


def test_options_that_would_go_unused_are_refused(tmp_path):
    query = ["query", str(tmp_path), "--model", "none"]
    for options, message in (
        (["--text", "a", "--box", "1", "2", "3", "4"], "--box is a region of --image"),
        (["--text", " "], "--text is empty"),
        (["--image", "a.png", "--long"], "--long is about --text"),
        (["--text", "a", "--top", "0"], "--top, the number of hits, must be at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*query, *options])


def test_command_line_builds_and_queries(tiny_checkpoint, photos, tmp_path, capsys, caplog):
    model = ["--model", str(tiny_checkpoint)]
    main(["index", str(photos), *model, "--output", str(tmp_path / "index")])
    assert "12 images (1 unreadable), 12 embedded now" in capsys.readouterr().out
    (photos / "folder0/broken.png").unlink()
    (photos / "folder0/broken.png").write_bytes((photos / "folder0/00.png").read_bytes())
    main(["index", str(photos), *model, "--output", str(tmp_path / "index")])
    assert "1 of the shards" in capsys.readouterr().out
    image = str(photos / "folder1/03.png")
    main(["query", str(tmp_path / "index"), *model, "--image", image, "--top", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("folder1/03.png")
    with pytest.raises(ValueError, match=r"--box 9 9 9 20 in .*03.png \(50×40 pixels\): box"):
        main(["query", str(tmp_path / "index"), *model, "--image", image, "--box", "9", "9", "9", "20"])
    main(["query", str(tmp_path / "index"), *model, "--image", image, "--box", "9", "9", "99", "20"])
    assert "reaches out of the image" in caplog.text


def test_a_checkpoint_without_its_processor_ends_in_one_line(tiny_fgclip, tmp_path, photos, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "_called_as", None)
    tiny_fgclip.save_pretrained(tmp_path / "model")
    for module, command in (
        ("search", ["index", str(photos)]),
        ("visualize", ["similarity", "--image", str(photos / "folder1/03.png"), "--phrase", "a"]),
    ):
        arguments = [*command, "--model", str(tmp_path / "model"), "--output", str(tmp_path / "out")]
        set_called_as(f"fgclip {module}")
        with pytest.raises(SystemExit, match="2"):
            run_command(import_module(f"eval.{module}.__main__").main, arguments)
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith(f"fgclip {module}: error: ")


def test_hits_as_table_json_and_page(tiny_checkpoint, photos, tmp_path, capsys):
    model = ["--model", str(tiny_checkpoint)]
    main(["index", str(photos), *model, "--output", str(tmp_path / "index"), "--grid", "2"])
    query = ["query", str(tmp_path / "index"), *model, "--image", str(photos / "folder1" / "01.png"), "--top", "3"]
    capsys.readouterr()
    main(query)
    table = capsys.readouterr().out.splitlines()
    main([*query, "--format", "json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [line.split()[2] for line in table]
    assert rows[0]["name"] == "folder1/01.png"
    assert rows[0]["score"] == pytest.approx(1, abs=1e-2)
    assert len(rows[0]["box"]) == 4
    main([*query, "--format", "html", "--images", str(photos)])
    page = capsys.readouterr().out
    assert page.count('<img alt="" src="data:image/jpeg;base64,') == 3
    assert all(row["name"] in page for row in rows)
    with pytest.raises(ValueError, match="--images are what"):
        main([*query, "--images", str(photos)])


def test_a_page_escapes_what_it_shows():
    page = as_html([Hit("<b>.png", (0.0, 0.0, 1.0, 1.0), 0.5)], "<script>", {})
    assert "&lt;b&gt;.png" in page
    assert "<script>" not in page


def test_the_lack_of_faiss_is_told_before_a_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("eval.adapters.load_adapter", lambda *_, **__: pytest.fail("loaded a model"))
    for command in (["index", str(tmp_path), "--output", "x"], ["query", "x", "--text", "a dog"]):
        with pytest.raises(ValueError, match=r"\.\[search\]"):
            main([*command, "--model", "none"])


def test_a_folder_as_people_have_it(embedder, tmp_path):
    """Suffixes in any case and of any kind, names of any script, what is no picture: found, or counted."""
    folder = FIXTURES / "odd_photos"
    summary = build(open_collection(str(folder)), embedder, tmp_path / "index")
    unreadable = {"broken.jpg", "empty.png", "page.jpg"}
    found = {name for table in read_shards(tmp_path / "index", 1, ["name"]) for name in table["name"].to_pylist()}
    called_images = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()}
    assert found == called_images - unreadable
    assert {"sub one/IMG_0001.JPG", "日本/IMG_0001.JPG", "y.jfif", "png_named.jpg", "y.tif"} < found
    assert (summary.images, summary.unreadable) == (len(called_images), 3)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no image; known are jpg"):
        open_collection(str(tmp_path / "nothing"))
