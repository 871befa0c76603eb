"""The page in a real browser: no word on its console, and no wider than a phone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyro_ebm.__main__ import main

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the page in"),
]
# What the browser makes of the page's layout, told to the page around it.
_MEASURE = """<script>
addEventListener("load", () => parent.postMessage([
  document.documentElement.clientWidth, document.documentElement.scrollWidth,
  document.querySelectorAll("section h2").length,
  [...document.images].filter(image => !image.naturalWidth).length,
  Math.min(...[...document.querySelectorAll("section")].map(part => part.offsetHeight)),
].join(" "), "*"));
</script></body>"""
# A window has a least width, a frame has none.
_AROUND = """<!DOCTYPE html><link rel="icon" href="data:,"><pre id="measured"></pre><script>
addEventListener("message", e => document.getElementById("measured").textContent = e.data);
</script><iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>"""


_HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
    "--dump-dom",
)


def browse(page: Path, *options: str) -> subprocess.CompletedProcess:
    command = [str(BROWSER), *_HEADLESS, *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", ["first", "estimate"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_looks_right(files, tmp_path, kind, width):
    page = tmp_path / "page.html"
    assert main(["report", str(files[kind]), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", _MEASURE), encoding="utf-8")
    around = tmp_path / "around.html"
    around.write_text(_AROUND.format(width=width), encoding="utf-8")
    seen = browse(around, "--window-size=1400,1000")
    assert "CONSOLE" not in seen.stderr
    measured = re.search(r'id="measured">([^<]+)<', seen.stdout)
    assert measured is not None
    visible, whole, sections, broken, least = map(int, measured[1].split())
    assert visible > width - 20
    assert whole == visible, "the page scrolls sideways"
    assert sections == text.count("<section ")
    assert broken == 0
    assert least > 60, "a section has no height"


def test_a_word_on_the_console_would_be_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<script>console.log('a word')</script>", encoding="utf-8")
    assert "CONSOLE" in browse(page).stderr
