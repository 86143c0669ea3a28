"""The built pages: what they load, whether they are whole, and whether everyone can read them."""

import re
import subprocess
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT, until

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


def test_every_reference_can_be_followed(soups):
    works = soups["book/references.html"].select(".citation")
    assert len(works) > 50
    assert [work.text[:80] for work in works if not work.select("a.external[href^=http]")] == []


def test_titles_tell_pages_apart(soups):
    titles = {name: soup.title.text.strip() for name, soup in soups.items() if name != "index.html"}
    assert len(set(titles.values())) == len(titles)
    assert all(CONFIG["title"] in title for title in titles.values())


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


# Opens every answer and brings every figure into view: there is more to read then, and more to get wrong.
UNFOLD = """() => {
  for (const answer of document.querySelectorAll("details")) answer.open = true;
  for (const button of document.querySelectorAll("button.toggle-button-hidden")) button.click();
  for (const figure of document.querySelectorAll("figure")) figure.scrollIntoView();
}"""


SECTIONS = ".bd-article > section > section"
LAY_OUT = f"document.querySelectorAll('{SECTIONS}').forEach(section => section.style.contentVisibility = 'visible')"

# What has just been laid out may ask for fonts, and observers hear of its size a frame later.
SETTLE = """async () => {
  const frames = async () => { for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame); };
  await frames();
  await document.fonts.ready;
  await frames();
}"""


def whole(page, url, lay_out=True):
    """Opens the page and waits until its scripts have run and its figures are alive; lays out what is far off, too."""
    page.goto(url)
    until(page, "[...document.querySelectorAll('figure.live')].every(figure => figure.live)")
    if lay_out:
        page.evaluate(LAY_OUT)
        page.evaluate(SETTLE)


def test_every_page_is_looked_at(soups):
    assert set(soups) - {"index.html"} == set(PAGES)    # index.html leads on to the first page


NO_CONTRAST = {"color-contrast": {"enabled": False}}    # it takes most of the time, and has a test of its own


def violations(page, **arguments):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, **arguments).response["violations"]
    return [(v["id"], v["impact"], [node["html"][:200] for node in v["nodes"]][:3]) for v in found]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible(site, open_page, name, viewport):
    """The wide page with all answers open, the phone's as it comes."""
    page = open_page(viewport=viewport, reduced_motion="reduce")
    whole(page, f"{site.url}/{name}")
    if viewport is WIDE:
        page.evaluate(UNFOLD)
        page.evaluate(SETTLE)
        assert page.locator(".toggle-hidden, details:not([open])").count() == 0
    assert violations(page, options={"resultTypes": ["violations"], "rules": NO_CONTRAST}) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out(site, open_page, name, scheme):
    """Within code and formulas, which look alike everywhere, on one page."""
    page = open_page(viewport=WIDE, color_scheme=scheme, reduced_motion="reduce")    # no colours on their way
    whole(page, f"{site.url}/{name}")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.evaluate(UNFOLD)
    context = None if name == f"{CHAPTERS[4]}.html" else {"exclude": [["pre"], [".katex"]]}
    assert violations(page, context=context, options={"resultTypes": ["violations"], "runOnly": ["color-contrast"]}) == []


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_text_stays_where_it_is_when_pictures_arrive(site, open_page, viewport):
    page = open_page(viewport=viewport)
    late = []
    page.route("**/_images/*", lambda picture: late.append(picture))
    page.goto(f"{site.url}/{CHAPTERS[4]}.html", wait_until="domcontentloaded")
    pictures = page.locator("article img[src*=_images]")
    sizes = "all => all.map(e => [e.clientWidth, e.clientHeight])"
    before = pictures.evaluate_all(sizes)
    for picture in late:
        picture.continue_()
    page.wait_for_load_state()
    page.unroute_all()
    until(page, "[...document.querySelectorAll('article img')].every(image => image.complete)")
    assert pictures.evaluate_all(sizes) == before and len(before) > 5
    if viewport is WIDE:    # pixel for pixel
        assert pictures.first.evaluate("e => e.clientWidth - 2 * parseFloat(getComputedStyle(e).paddingLeft) - e.naturalWidth") == 0


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_list_of_contents_follows_the_reader(site, open_page, viewport):
    """On a phone from the moment that it is opened."""
    page = open_page(viewport=viewport)
    whole(page, f"{site.url}/book/05_vae.html", lay_out=False)
    following = "!!bootstrap.ScrollSpy.getInstance(document.body)"
    if viewport is PHONE:
        assert not page.evaluate(following)
        page.locator(".secondary-toggle").locator("visible=true").first.click()
    until(page, following)
    active = "[...document.querySelectorAll('.bd-toc-nav a.active')].map(a => a.hash)"
    for place in ("#what-goes-wrong", "#exercises"):
        page.evaluate(f"document.querySelector('{place}').scrollIntoView()")
        until(page, f"{active}.includes('{place}')")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("place", ["10_vlae.html#vlae-codes", "11_evaluation.html#evaluation-samples"])
def test_a_link_into_a_chapter_arrives(site, open_page, place, viewport):
    """Whoever starts at the top gets far sections later; whoever comes for a place gets the page at once, and is there."""
    page = open_page(viewport=viewport)
    far = f"[...document.querySelectorAll('{SECTIONS}')].map(section => getComputedStyle(section).contentVisibility)"
    whole(page, f"{site.url}/book/{urldefrag(place).url}", lay_out=False)
    assert set(page.evaluate(far)) == {"auto"}
    page.goto("about:blank")
    whole(page, f"{site.url}/book/{place}", lay_out=False)
    assert set(page.evaluate(far)) == {"visible"}
    page.wait_for_timeout(1000)
    assert 0 <= page.locator(f"#{urldefrag(place).fragment}").bounding_box()["y"] < 100


@pytest.mark.parametrize("back", ["reload", "go_back"])
def test_whoever_comes_back_is_where_they_were(site, open_page, back):
    page = open_page(viewport=PHONE)
    whole(page, f"{site.url}/book/10_vlae.html", lay_out=False)
    for _ in range(12):
        page.mouse.wheel(0, 1300)
        page.wait_for_timeout(100)
    seen = "document.elementFromPoint(innerWidth / 2, innerHeight / 2).closest('section').id"
    there = page.evaluate(seen)
    if back == "go_back":
        page.goto(f"{site.url}/book/intro.html")
    getattr(page, back)()
    page.wait_for_timeout(1000)
    assert page.evaluate("scrollY") > 10_000 and page.evaluate(seen) == there


@pytest.mark.parametrize("name", PAGES)
def test_phone_does_not_scroll_sideways(site, open_page, name):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    whole(page, f"{site.url}/{name}")
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("source", CHAPTERS)
def test_keyboard_reaches_what_scrolls_and_only_that(site, open_page, source, viewport):
    """Also inside an answer that has just been opened."""
    page = open_page(viewport=viewport)
    whole(page, f"{site.url}/{source}.html")
    page.evaluate(UNFOLD)
    page.evaluate(SETTLE)
    boxes = page.evaluate("""[...document.querySelectorAll(".formula, .pst-scrollable-table-container, article pre")]
        .map(box => [box.scrollWidth > box.clientWidth, box.tabIndex === 0, box.innerText.slice(0, 40)])""")
    assert len(boxes) > 20 and [box for box in boxes if box[0] != box[1]] == []


# Where the keyboard is: [what, whether it can be seen].
PLACE = """() => {
  const at = document.activeElement, next = at.nextElementSibling;
  if (at === document.body) return null;
  at.dataset.reached = "";
  const look = getComputedStyle(at), ring = (look) => look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2;
  const itself = look.opacity > 0.5 && (ring(look) || look.boxShadow !== "none");
  return [at.outerHTML.slice(0, 120), itself || (at.matches(".live-choice input") && ring(getComputedStyle(next)))];
}"""


@pytest.mark.parametrize("name", ["book/07_cvae.html", "book/glossary.html", "search.html"])
def test_keyboard_reaches_every_control_and_its_place_is_seen(site, open_page, name):
    page = open_page(viewport=WIDE, reduced_motion="reduce")
    whole(page, f"{site.url}/{name}", lay_out=False)
    unseen, first = [], None
    while page.keyboard.press("Tab") or (place := page.evaluate(PLACE)):
        first = first or place[0]
        unseen += [] if place[1] else [place[0]]
    assert "Skip to main content" in first
    assert unseen == []
    controls = "article :is(button, summary, input:not([type=radio]), [role=application]), .live-choice :checked"
    missed = page.locator(controls).evaluate_all("""all => all
        .filter(e => e.checkVisibility({visibilityProperty: true}) && !("reached" in e.dataset))
        .map(e => e.outerHTML.slice(0, 120))""")
    assert missed == []


def test_keyboard_opens_answers_and_copies_code(site, open_page):
    page = open_page(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"])
    whole(page, f"{site.url}/{CHAPTERS[4]}.html")
    solution, quiz = page.locator(".solution.toggle").first, page.locator("article details").first
    answers = (solution, "button.toggle-button", "section"), (quiz, "summary", "p >> nth=-1")
    for opener, content in ((fold.locator(name), fold.locator(inside)) for fold, name, inside in answers):
        for shown in True, False:
            opener.focus()
            page.keyboard.press("Enter")
            page.wait_for_timeout(300)
            assert content.is_visible() is shown
    cell = page.locator("div.highlight").nth(1)
    cell.locator("button.copybtn").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("navigator.clipboard.readText()").strip() == cell.locator("pre").inner_text().strip()
    assert page.errors == []


def test_nothing_moves_for_whoever_asked_for_rest(site, open_page):
    moving = """[...document.querySelectorAll("*")].filter(e => ["", "::before", "::after"].some(part => {
        const look = getComputedStyle(e, part), seconds = times => Math.max(...times.split(",").map(parseFloat));
        return seconds(look.transitionDuration) || (look.animationName !== "none" && seconds(look.animationDuration))
            || look.scrollBehavior === "smooth";
    })).length"""
    for motion, expected in ("reduce", False), ("no-preference", True):
        page = open_page(viewport=WIDE, reduced_motion=motion)
        whole(page, f"{site.url}/{CHAPTERS[4]}.html")
        assert bool(page.evaluate(moving)) is expected


PAPER = {"width": 672, "height": 1000}    # of A4 between the margins, in CSS pixels


@pytest.mark.parametrize("source", [CHAPTERS[4], CHAPTERS[7]])
def test_chapter_prints_whole(site, open_page, source):
    """From the dark page: dark on white, no line of code cut off, every answer open and nothing to press."""
    page = open_page(viewport=PAPER, color_scheme="dark")
    whole(page, f"{site.url}/{source}.html")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    cut = page.evaluate("""() => {
      const sheet = document.querySelector("article").getBoundingClientRect();
      return [...document.querySelectorAll("article :is(p, pre, img, canvas, svg, table, figure, .formula, .eqno, summary)")]
        .filter(e => e.checkVisibility() && !e.closest(".katex-mathml"))
        .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible"
                     || e.getBoundingClientRect().right > sheet.right + 1)
        .map(e => e.outerHTML.slice(0, 200));
    }""")
    assert cut == []
    pressed = page.locator("button, input[type=range], nav, .headerlink")
    assert pressed.evaluate_all("all => all.filter(e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 100))") == []
    assert page.locator("h1:visible").inner_text().startswith(f"{int(source[5:7])}.")
    for answer in page.locator(".solution section, details p").all():
        assert answer.is_visible()
    assert page.locator("article .live canvas:visible, article .live-curves:visible").count()
    until(page, "[...document.querySelectorAll('article img')].every(image => image.complete && image.naturalWidth)")
    ink = "getComputedStyle(document.querySelector('article p')).color.match(/\\d+/g).slice(0, 3).every(c => c < 100)"
    assert page.evaluate(ink)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    sheets = len(re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True)))
    assert 10 <= sheets <= 30
    assert page.locator("article details[open]").count() == 0


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


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("reparameterisation trick", "3. The reparameterisation trick"),
        ("transposed convolutions", "6. The convolutional VAE"),
        ("Lagrange multiplier", "8. β-VAE and disentanglement"),
        ("ladder", "10. The variational ladder autoencoder"),
        ("log_likelihood", "11. Evaluation"),
        ("active unit", "Glossary"),
        ("hippopotamus", None),
    ],
)
def test_search_finds(site, page, query, found):
    """From any page, by keyboard alone."""
    page.goto(f"{site.url}/book/intro.html")
    page.keyboard.press("Control+k")
    page.locator("input[type=search]:focus").wait_for()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    summary = page.locator("#search-results .search-summary")
    if found:
        summary.filter(has_text="Search finished").wait_for(timeout=10_000)
        first = page.locator("#search-results li > a")
        assert found in first.all_inner_texts()[:2]
        first.filter(has_text=found).first.click()
        page.wait_for_load_state()
        assert found in page.locator("h1:visible").inner_text()
    else:
        summary.filter(has_text="did not match any").wait_for(timeout=10_000)
    assert page.errors == []
    assert all(url.startswith(site.url) or urlparse(url).scheme in THIRD_PARTY_ALLOWED for url in page.requests)
