"""HTML is made by templates alone, which escape what is put into them."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from dataset_scripts.pages import TEMPLATES, picture_url, render

ROOT = Path(__file__).parents[2]
FOLDERS = ("fgclip", "modeling_fgclip", "dataset_scripts", "training", "eval", "spaces")


def test_no_code_puts_html_together():
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bf(\"|').*</\w+>", text), f"{path} fills HTML by itself; render a template"
        assert "html.escape" not in text, f"{path} escapes by itself; render a template"


def test_every_template_is_sound_and_escapes():
    templates = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.html")]
    assert len(templates) > 5
    for path in templates:
        assert "|safe" not in path.read_text().replace("' class=\"left\"'|safe", ""), path
        TEMPLATES.get_template(path.relative_to(ROOT).as_posix())
    hostile = '"><script>alert(1)</script>'
    page = render("eval/visualize/similarity.html", title=hostile, figure=hostile)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3  # title, heading and address
    with pytest.raises(UndefinedError):
        render("eval/visualize/similarity.html", title="a page without its figure")


def test_a_picture_lies_in_the_page_and_is_no_larger_than_asked():
    url = picture_url(Image.new("RGBA", (900, 300), "red"), 320)
    assert url.startswith("data:image/jpeg;base64,")
    from base64 import b64decode
    from io import BytesIO

    with Image.open(BytesIO(b64decode(url.partition(",")[2]))) as image:
        assert (image.size, image.mode) == ((320, 107), "RGB")
