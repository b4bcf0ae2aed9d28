"""The site is made without a warning: no dead link or anchor, no page left out. It loads nothing from another host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOADED = (
    r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"([^\"]*)",
    r"<link\b(?![^>]*rel=\"(?:canonical|license)\")[^>]*?\bhref=\"([^\"]*)",
    r"url\(\s*['\"]?([^)'\"]*)",
    r"@import\s+['\"]([^'\"]*)",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", "docs", ".", out]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_of_the_docs_is_on_the_site(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT).with_suffix(".html")).is_file()
    assert "docs/index.html" in (site / "index.html").read_text()


def test_links_into_the_site_lead_somewhere(site):
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    for path, text in pages.items():
        for link in re.findall(r"<a\b[^>]*?\bhref=\"([^\"]*)", text):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            other = (path.parent / target).resolve() if target else path
            assert other.is_file(), f"{path.name}: {link}"
            assert not anchor or other not in pages or f'id="{anchor}"' in pages[other], f"{path.name}: {link}"


def test_a_page_loads_nothing_from_another_host(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 40
    for path in files:
        for pattern in LOADED:
            foreign = [found for found in re.findall(pattern, path.read_text()) if re.match(r"(?:https?:)?//", found)]
            assert not foreign, f"{path.relative_to(site)}: {foreign}"


def test_the_reference_has_the_docstrings_and_shapes(site):
    page = (site / "docs/reference.html").read_text()
    for name in ("SceneGraph", "ShardSet", "BatchPlan", "ErnieViL", "Matcher", "Spice"):
        assert re.search(rf'id="[\w.]*\.{name}"', page), name
    assert "float32 [n, 4]" in page
    assert "its further mentions, in the order of the caption: pronouns" in page
