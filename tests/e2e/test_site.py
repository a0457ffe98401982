"""The documentation as a site: built strictly, read from the disk, without faults of access at any size."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Watched, chromium, faults, scrolls_sideways

ROOT = Path(__file__).parents[2]
WIDTHS = (390, 1024, 1600)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason=f"{package} is not installed; the extra dev brings it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def opened(browser: Any, path: Path, width: int = 1024, scheme: str = "light") -> Watched:
    viewport = {"width": width, "height": 844 if width < 600 else 900}
    return Watched(browser, path.as_uri(), viewport=viewport, color_scheme=scheme, reduced_motion="reduce")


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    named = {name.removesuffix(".md").replace("README", "index") for name in re.findall(r"[\w./-]+\.md", navigation)}
    assert named <= {page.removesuffix(".html") for page in pages}
    loaded = r'<(?:script|img|iframe)\b[^>]*\bsrc="([^"]+)"|<link\b(?![^>]*\brel="canonical")[^>]*\bhref="([^"]+)"'
    for name, text in pages.items():
        addresses = [a or b for a, b in re.findall(loaded, text)]
        assert addresses, name
        assert [address for address in addresses if re.match(r"(https?:)?//|/", address)] == [], name


def test_the_notebook_is_shown_with_what_its_cells_showed(site: Path) -> None:
    page = (site / "notebook.html").read_text(encoding="utf-8")
    shown = "".join(re.findall(r'<div class="output">.*?</div>', page, re.DOTALL))
    assert shown.count("<svg") >= 3, "two topologies and a run are drawn"
    assert "40 of 40 steps" in shown, "training has a bar"
    assert "best constant" in shown and "out ← 1.1, 1.2" in shown


def test_the_search_works_from_the_disk(browser: Any, site: Path) -> None:
    watched = opened(browser, site / "reference" / "api.html")
    page = watched.page
    page.get_by_role("textbox", name="Search").press_sequentially("patience")  # the search listens to keys alone
    found = page.locator(".md-search-result__item a").first
    found.wait_for()
    assert "settings.html" in page.locator(".md-search-result__list").inner_html()
    found.click()
    page.wait_for_url(re.compile(r"^file://.*\.html"))
    assert watched.errors == []
    watched.context.close()


@pytest.mark.parametrize("page", ["index.html", "notebook.html"])
def test_a_page_has_no_fault_of_access_on_a_phone(browser: Any, site: Path, page: str) -> None:
    assert wrong(browser, site / page, 390, "dark") == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_has_a_fault_of_access(browser: Any, site: Path, width: int, scheme: str) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    found = {path.relative_to(site).as_posix(): wrong(browser, path, width, scheme) for path in pages}
    assert {name: told for name, told in found.items() if told} == {}


def wrong(browser: Any, path: Path, width: int, scheme: str) -> list[str]:
    """The faults of access and the errors of a page, once its script has looked at it."""
    watched = opened(browser, path, width, scheme)
    watched.page.wait_for_timeout(200)
    found = [*faults(watched.page), *watched.errors, *(["scrolls sideways"] if scrolls_sideways(watched.page) else [])]
    watched.context.close()
    return found
