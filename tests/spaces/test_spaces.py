"""The demos in a real headless browser, at desktop and phone size: they answer right, fit the screen, and refuse bad uploads.

Set FGCLIP_SCREENSHOTS to a folder to keep the screenshots.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor

pytest.importorskip("gradio", reason="needs the extra spaces")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """FGCLIP_DEMO_CHECKPOINT (a trained one makes better pictures), or a random one."""
    if given := os.environ.get("FGCLIP_DEMO_CHECKPOINT"):
        return Path(given)
    from transformers import CLIPImageProcessorPil

    from modeling_fgclip import FGCLIPConfig
    from tests.conftest import CAPTIONS, TINY
    from training.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(CAPTIONS * 2, vocab_size=600)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**TINY["text_config"], **ids, "vocab_size": len(tokenizer)}
    folder = tmp_path_factory.mktemp("demo") / "checkpoint"
    torch.manual_seed(0)
    FGCLIPModel(FGCLIPConfig(**{**TINY, "text_config": text})).save_pretrained(folder)
    FGCLIPProcessor(CLIPImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """FGCLIP_DEMO_IMAGES, or eight drawings."""
    if given := os.environ.get("FGCLIP_DEMO_IMAGES"):
        return Path(given)
    folder = tmp_path_factory.mktemp("photos")
    for number, color in enumerate(("red", "blue", "green", "orange", "purple", "teal", "brown", "pink")):
        image = Image.new("RGB", (320, 240), "lightgrey")
        ImageDraw.Draw(image).ellipse((60 + 10 * number, 40, 200, 180), fill=color)
        image.save(folder / f"drawing{number}.png")
    return folder


def start(script: str, *arguments: str) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "spaces" / script), *arguments, "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        assert process.poll() is None, process.stdout.read()
        try:
            urllib.request.urlopen(url, timeout=30).close()
            return process, url
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise AssertionError(f"{script} does not answer: {process.stdout.read()}")


def stop(process: subprocess.Popen) -> str:
    process.terminate()
    return process.communicate(timeout=900)[0]


@pytest.fixture(scope="module")
def retrieval(checkpoint, photos) -> Iterator[str]:
    process, url = start("retrieval/app.py", "--model", str(checkpoint), "--images", str(photos))
    yield url
    stop(process)


@pytest.fixture(scope="module")
def regions(checkpoint) -> Iterator[str]:
    process, url = start("regions/app.py", "--model", str(checkpoint))
    yield url
    stop(process)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def page(request, browser):
    phone = request.param == "phone"
    context = browser.new_context(viewport=SIZES[request.param], has_touch=phone, is_mobile=phone)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.size_name = request.param
    yield page
    context.close()


def screenshot(page, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("FGCLIP_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}_{page.size_name}.png", full_page=True)


def assert_fits(page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[page.size_name]["width"], "the page scrolls sideways"


def best_of(checkpoint: Path, photos: Path, text: str, long: bool) -> str:
    """Name of the best image by the model itself."""
    model, processor = FGCLIPModel.from_pretrained(checkpoint).eval(), FGCLIPProcessor.from_pretrained(checkpoint)
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    with torch.no_grad():
        images = model.get_image_features(
            processor(images=[Image.open(p).convert("RGB") for p in paths])["pixel_values"]
        )
        query = model.get_text_features(**processor(text=text, long_text=long))
    return paths[int(torch.cosine_similarity(images, query).argmax())].name


@pytest.mark.parametrize("long", [False, True])
def test_retrieval(page, retrieval, checkpoint, photos, long, tmp_path):
    text = "a light red wooden star and a small green metal circle"
    page.goto(retrieval)
    page.locator("#query textarea").fill(text)
    page.locator("#phrase textarea").fill("green metal circle")
    if long:
        page.get_by_label("long (up to 248 tokens)").check()
    page.locator("#search").click()
    caption = page.locator("#results .caption-label, #results .caption").first
    caption.wait_for()
    assert best_of(checkpoint, photos, text, long) in caption.inner_text()
    page.wait_for_timeout(1000)
    assert_fits(page)
    screenshot(page, "retrieval_long" if long else "retrieval", tmp_path)
    assert str(photos.parent) not in page.content()


def test_retrieval_without_text_says_what_to_do(page, retrieval, tmp_path):
    page.goto(retrieval)
    page.locator("#search").click()
    page.get_by_text("Type what you look for first").wait_for()
    screenshot(page, "retrieval_empty", tmp_path)


def test_regions(page, regions, photos, checkpoint, tmp_path):
    page.goto(regions)
    path = sorted(path for path in photos.rglob("*") if path.is_file())[1]
    page.locator("#upload input[type=file]").set_input_files(path)
    canvas = page.locator("#canvas img")
    canvas.wait_for()
    page.wait_for_timeout(1500)
    for x, y in ((0.2, 0.15), (0.65, 0.8)):
        place = canvas.bounding_box()
        canvas.click(position={"x": x * place["width"], "y": y * place["height"]})
        page.wait_for_timeout(1500)
    phrases = ["a dark blue circle", "a light red wooden star", "a small green metal circle"]
    page.locator("#phrases textarea").fill("\n".join(phrases))
    page.locator("#compare").click()
    page.locator("#ranking .ranking").first.wait_for()
    assert page.locator("#ranking caption").all_inner_texts() == ["Box 1"]
    rows = page.locator("#ranking tbody tr").all_inner_texts()
    shares = [float(row.split()[-3]) for row in rows]  # 12.3 % 0.456
    assert len(rows) == 3
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.2)
    model, processor = FGCLIPModel.from_pretrained(checkpoint).eval(), FGCLIPProcessor.from_pretrained(checkpoint)
    with torch.no_grad():
        output = model(
            **processor(
                images=Image.open(path).convert("RGB"),
                text=phrases,
                boxes=[[0.2, 0.15, 0.65, 0.8]],
                box_format="normalized",
            )
        )
    scores = (output.region_embeds[0] @ output.text_embeds.t() * output.scales[1]).softmax(-1)[0]
    # A click lands on a whole pixel of the shown image.
    assert shares == pytest.approx((100 * scores.sort(descending=True).values).tolist(), abs=3)
    page.locator("#maps img").nth(2).wait_for()
    page.wait_for_timeout(1000)
    assert_fits(page)
    screenshot(page, "regions", tmp_path)
    assert str(path.parent) not in page.locator("#ranking").inner_text()


def test_an_example_a_box_by_keyboard_and_a_page_to_share(page, regions, tmp_path):
    page.goto(regions)
    page.locator("#examples .gallery-item, #examples button").first.click()
    page.locator("#ranking .ranking").first.wait_for()
    assert page.locator("#ranking caption").all_inner_texts() == ["Box 1"]
    written = page.get_by_label("Boxes in percent of the image")
    first = written.input_value()
    assert len(first.split()) == 4
    written.fill(f"{first}\n50 50 100 100")
    written.press("Tab")
    page.wait_for_timeout(1500)
    page.locator("#compare").click()
    page.locator("#ranking caption").nth(1).wait_for()
    assert page.get_by_text("the model has to choose").count() == 1
    page.locator("#maps img").nth(3).wait_for()
    assert_fits(page)
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "shared.html")
    shared = (tmp_path / "shared.html").read_text(encoding="utf-8")
    assert shared.count("<h2>Box ") == 2
    assert shared.count('src="data:image/jpeg;base64,') == shared.count("src=") == 4
    assert str(tmp_path.parent) not in shared
    screenshot(page, "regions_example", tmp_path)


def test_bad_uploads_are_refused(page, regions, tmp_path):
    page.goto(regions)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"<html>no image</html>")
    page.locator("#upload input[type=file]").set_input_files(broken)
    page.get_by_text("cannot be read as an image").first.wait_for()
    page.reload()
    huge = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(huge)  # 10 kB on disk, 81 million pixels
    page.locator("#upload input[type=file]").set_input_files(huge)
    page.get_by_text("more than 25 million pixels").first.wait_for()
    screenshot(page, "regions_refused", tmp_path)
    assert str(tmp_path) not in page.inner_text("body")
