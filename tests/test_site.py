"""The built pages: what they load, whether they are whole, and whether everyone can read them."""

import re
import subprocess
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
SOURCES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
CHAPTERS = [source for source in SOURCES if (ROOT / f"{source}.ipynb").exists()]
PAGES = [f"{source}.html" for source in SOURCES] + ["search.html", "genindex.html"]

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
THIRD_PARTY_ALLOWED = {"data", "blob"}    # schemes that ask nobody


@pytest.fixture(scope="session")
def soups(site):
    return {
        path.relative_to(site.html).as_posix(): BeautifulSoup(path.read_text(), "html.parser")
        for path in site.html.rglob("*.html")
        if "_static" not in path.parts and path.name != "404.html"    # its links are absolute: tests/test_publishing.py
    }


@pytest.mark.parametrize("name", PAGES)
def test_page_loads_cleanly_and_alone(site, page, name):
    page.goto(f"{site.url}/{name}", wait_until="networkidle")
    assert page.errors == []
    foreign = [url for url in page.requests if not url.startswith(site.url) and urlparse(url).scheme not in THIRD_PARTY_ALLOWED]
    assert foreign == []
    assert page.locator("h1:visible").count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_pages_carry_no_idle_scripts(site, page, name):
    page.goto(f"{site.url}/{name}", wait_until="networkidle")
    idle = ("vendor/fontawesome", "thebe", "mathjax", "require", "katex.min.js")
    if name != "search.html":
        idle += ("searchindex.js",)
    assert [url for url in page.requests for part in idle if part in url.lower()] == []


def test_icons_in_use_are_drawn(soups):
    """A new icon of the theme would be a full square: `_static/icons.css` says how to add one."""
    rules = (ROOT / "book" / "_static" / "icons.css").read_text()
    names = {name for soup in soups.values() for tag in soup.select("[class*=fa-]") for name in tag["class"] if name.startswith("fa-")}
    assert "fa-rocket" in names
    assert {name for name in names if not re.search(rf"^\.{name}[ ,].*--icon: url", rules, re.MULTILINE)} <= {"fa-solid", "fa-brands", "fa-lg"}


def prose(soup):
    """The text of the article, without code and without the LaTeX that KaTeX keeps for screen readers."""
    article = BeautifulSoup(str(soup.find("article") or soup), "html.parser")
    for part in article.select("pre, code, annotation, script, style"):
        part.decompose()
    return article.get_text()


@pytest.mark.parametrize("source", SOURCES)
def test_mathematics_is_set(soups, source):
    soup = soups[f"{source}.html"]
    assert not soup.select(".katex-error")
    assert not soup.select(".katex .mord[style*='color:#cc0000']")    # a macro that KaTeX does not know
    assert not soup.select(".highlight-yaml")    # the cell that tells JupyterLab the macros
    for raw in ("$", r"\(", r"\[", r"\KL", r"\E", "{eq}", "{ref}", "{cite"):
        assert raw not in prose(soup)
    text = "".join(path.read_text() for path in ROOT.glob(f"{source}.*"))
    assert bool(soup.select(".katex")) == ("$" in text or "{math}" in text)


def test_mathematics_needs_no_javascript(site, open_page):
    page = open_page(java_script_enabled=False)
    page.goto(f"{site.url}/book/notation.html", wait_until="networkidle")
    formula = page.locator(".math-block .katex-html").first
    assert formula.is_visible()
    assert formula.bounding_box()["width"] > 200
    assert any("KaTeX_Main-Regular.woff2" in url for url in page.requests)


@pytest.mark.parametrize("source", CHAPTERS)
def test_chapter_counts_by_its_file(soups, source):
    """05_vae is chapter 5, its first equation is (5.1) and its first figure Fig. 5.1."""
    soup = soups[f"{source}.html"]
    chapter = int(source.rpartition("/")[2][:2])
    assert soup.select_one("article h1 .section-number").text.strip() == f"{chapter}."
    numbers = [number.contents[0] for number in soup.select(".math-block .eqno")]
    assert numbers == [f"({chapter}.{count})" for count in range(1, len(numbers) + 1)]
    figures = [caption.text.split()[1] for caption in soup.select("figcaption .caption-number")]
    assert figures == [f"{chapter}.{count}" for count in range(1, len(figures) + 1)]


def test_pictures_have_words(soups):
    for name, soup in soups.items():
        assert [str(image)[:120] for image in soup.select("article img") if not image.get("alt", "").strip()] == [], name
        assert [str(figure)[:120] for figure in soup.select("article figure") if not figure.select_one("figcaption")] == [], name


def test_internal_links_arrive(soups, site):
    anchors = {name: {tag["id"] for tag in soup.select("[id]")} | {""} for name, soup in soups.items()}
    broken = []
    for name, soup in soups.items():
        for tag in soup.select("a[href], link[href], script[src], img[src]"):
            target, anchor = urldefrag(urljoin(f"{site.url}/{name}", tag.get("href") or tag.get("src")))
            if not target.startswith(site.url):
                continue
            path = unquote(urlparse(target).path).lstrip("/") or name
            if not (site.html / path).exists() or (path in anchors and unquote(anchor) not in anchors[path]):
                broken.append((name, target, anchor))
    assert broken == []


def tracked():
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a Git working tree")
    return set(listing.stdout.splitlines())


@pytest.mark.parametrize("source", CHAPTERS)
def test_launch_buttons_open_tracked_notebooks(soups, source):
    owner_and_name = urlparse(CONFIG["repository"]["url"]).path.strip("/")
    branch = CONFIG["repository"]["branch"]
    links = {urlparse(a["href"]).netloc: urlparse(a["href"]) for a in soups[f"{source}.html"].select("a.btn[href^=https]")}

    colab = links["colab.research.google.com"].path
    prefix = f"/github/{owner_and_name}/blob/{branch}/"
    assert colab.startswith(prefix)

    binder = links["mybinder.org"]
    assert binder.path == f"/v2/gh/{owner_and_name}/{branch}"
    opened = parse_qs(binder.query)["urlpath"][0]
    assert opened.startswith("lab/tree/")

    assert {colab.removeprefix(prefix), opened.removeprefix("lab/tree/")} == {f"{source}.ipynb"} <= tracked()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible(site, open_page, name, scheme, viewport):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")    # no colours on their way
    page.goto(f"{site.url}/{name}", wait_until="networkidle")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], [node["html"][:200] for node in v["nodes"]][:3]) for v in violations] == []


@pytest.mark.parametrize("name", PAGES)
def test_phone_does_not_scroll_sideways(site, open_page, name):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.goto(f"{site.url}/{name}", wait_until="networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("source", CHAPTERS)
def test_keyboard_reaches_what_scrolls_and_only_that(site, open_page, source, viewport):
    page = open_page(viewport=viewport)
    page.goto(f"{site.url}/{source}.html", wait_until="networkidle")
    boxes = page.evaluate("""[...document.querySelectorAll(".formula, .pst-scrollable-table-container")]
        .map(box => [box.scrollWidth > box.clientWidth, box.tabIndex === 0])""")
    assert boxes and all(scrolls == reached for scrolls, reached in boxes)


def test_dark_mode_is_dark_and_can_be_switched(site, open_page):
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => +a + +b, 0)"
    page = open_page(color_scheme="dark")
    page.goto(f"{site.url}/book/notation.html", wait_until="networkidle")
    assert page.evaluate(brightness) < 150
    for _ in range(3):    # auto, light, dark
        page.locator("button.theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.mode") == "light":
            break
    assert page.evaluate(brightness) > 600
    assert page.errors == []


def test_search_finds(site, page):
    page.goto(f"{site.url}/search.html?q=reparameterisation", wait_until="networkidle")
    page.locator("#search-results li a", has_text="Glossary").first.wait_for(timeout=10_000)
    assert page.errors == []
