"""What is written, in chapters, other pages and the repository's documents: spelling, notation, terms, literature."""

import re
from importlib.resources import files

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from pybtex.database import parse_file

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
PAGES = CHAPTERS + sorted((ROOT / "book").glob("*.md"))
DOCUMENTS = PAGES + sorted(ROOT.glob("*.md"))
MACROS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["math_macros"]


def markdown(path):
    """As its author wrote it; of a notebook the cells of text, the captions, and what is said in place of pictures."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.id != "macros":
            parts.append(cell.source)
        shown = cell.metadata.get("mystnb", {})
        parts += [shown.get("image", {}).get("alt", ""), shown.get("figure", {}).get("caption", "")]
        for output in cell.get("outputs", []):
            html = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            parts += [image.get("alt", "") for image in html.select("img")]
            parts += [caption.text for caption in html.select("figcaption")]
    return "\n\n".join(parts)


MATH = re.compile(r"^(`{3,})\{math\}.*?^\1|\$\$.*?\$\$|\$[^$]+\$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ *(`{3,})\w+\n.*?^ *\1|(?<!`)`[^`\n]+`(?!`)", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r"\{[\w:-]+\}`[^`]*`")
MARKUP = re.compile(r"^`{3,}(?:\{[\w-]+\})?|^:\w+:.*|^\(.*\)=$|\]\([^)]*\)|https?://\S+", re.MULTILINE)


def prose(text):
    """Without mathematics, code, references and what directs them."""
    for part in MATH, ROLE, CODE, MARKUP:
        text = part.sub(" ", text)
    return text


def test_prose_is_what_is_left():
    text = "(x)=\n# A\n```{math}\n:label: y\nKL\n```\nSee {ref}`z`, `code` and $q$ [there](http://a.b).\n"
    text += "  ```sh\n  make\n  ```\n````{dropdown} Why?\nSo.\n````"
    assert prose(text).split() == ["#", "A", "See", ",", "and", "[there", ".", "Why?", "So."]


# -- spelling ------------------------------------------------------------------------------------------------------

# Names, and words that are British too in the sense in which we use them.
ALLOWED = {"theis", "biased", "licensed", "practice", "program", "programs", "story", "resize", "resized", "resizing"}
AMERICAN = re.compile(r"[a-z]{3,}[iy]z(?:e[ds]?|ers?|ing|ations?)")


def pairs(name):
    """One of codespell's lists, whose lines read `wrong->right`."""
    lines = (files("codespell_lib") / "data" / name).read_text(encoding="utf-8").splitlines()
    return [line.split("->") for line in lines]


def corrections():
    """Misspelt and American words, and how they are written."""
    found = dict(pairs("dictionary.txt") + pairs("dictionary_rare.txt"))
    for british, american in pairs("dictionary_en-GB_to_en-US.txt"):
        found |= dict.fromkeys(american.replace(",", " ").split(), british)
    return found


@pytest.fixture(scope="module")
def misspelt():
    known = corrections()

    def misspelt(text):
        words = {word.lower() for word in re.findall(r"[A-Za-z][A-Za-z']*[A-Za-z]", prose(text))} - ALLOWED
        return {word: known.get(word, "-ise, -yse") for word in words if word in known or AMERICAN.fullmatch(word)}

    return misspelt


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_spelling_is_british(path, misspelt):
    assert misspelt(markdown(path)) == {}


def test_spelling_is_checked(misspelt):
    text = "The color of a binarized, modeled artifact is analyzed wierdly: the size of a prize, `color=`, $center$."
    assert set(misspelt(text)) == {"color", "binarized", "modeled", "artifact", "analyzed", "wierdly"}


# -- notation ------------------------------------------------------------------------------------------------------

NAMES = [name[1:] for name in MACROS]
FONTS = rf"\\(?:math[a-z]+|text[a-z]*|operatorname)\*?\s*\{{?(?:{'|'.join(NAMES)})\b\}}?"    # such as \mathbb{E}
BARE = rf"(?<![\\A-Za-z])(?:{'|'.join(name for name in NAMES if len(name) > 1)})(?![A-Za-z])"    # E, N: variables
RAW = re.compile(f"{FONTS}|{BARE}")


def raw_symbols(text):
    """LaTeX for what has a macro."""
    return [raw[0] for part in MATH.finditer(text) for raw in RAW.finditer(part[0])]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_symbols_are_written_by_their_macros(path):
    assert raw_symbols(markdown(path)) == []


def test_raw_symbols_are_found():
    raw = [r"\mathbb{E}", r"\mathrm{KL}", r"\mathcal N", r"\text{ELBO}", r"\operatorname{diag}", "KL"]
    assert raw_symbols(" and ".join(f"$2 {symbol} + 1$" for symbol in raw)) == raw
    assert raw_symbols(r"$\KL{q}{p}$, $\E[x]$, $R$, $E_N$, $\mathrm{MIG}$, KL") == []


def test_every_macro_is_explained():
    notation = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    assert [name for name in MACROS if not re.search(re.escape(name) + "(?![A-Za-z])", notation)] == []


# -- the glossary --------------------------------------------------------------------------------------------------

TERMS = re.findall(r"^(\S.*)\n  \S", (ROOT / "book" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)

# Words that an earlier chapter uses in passing, and the chapter that gives them the glossary's sense.
SENSE = {"condition": "07_cvae", "ladder": "10_vlae", "rank": "12_going_further", "rate": "08_beta_vae"}
LINK = re.compile(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`")


def linked(text):
    return {re.sub(r"\s+", " ", term).lower() for term in LINK.findall(text)}


def used(text):
    """The terms that occur outside links and headings, alone or in the plural, a longer one before those within it."""
    text, found = re.sub(r"^#.*$", "", prose(text), flags=re.MULTILINE), set()
    for term in sorted(TERMS, key=len, reverse=True):
        words = r"[\s-]+".join(map(re.escape, term.split()))
        text, count = re.subn(rf"(?<![\w-]){words}(?:s|es)?(?![\w-])", " ", text, flags=re.IGNORECASE)
        found |= {term} if count else set()
    return found


def test_chapters_link_the_terms_they_introduce():
    """The chapter that uses a term first, in reading order, links it."""
    texts = {path.stem: markdown(path) for path in CHAPTERS}
    links = {name: linked(text) for name, text in texts.items()}
    met = {name: used(text) | {term for term in TERMS if term.lower() in links[name]} for name, text in texts.items()}
    missing = {}
    for term in TERMS:
        first = SENSE.get(term) or next((name for name in met if term in met[name]), "no chapter")
        if term.lower() not in links.get(first, ()):
            missing.setdefault(first, []).append(term)
    assert missing == {}


def test_glossary_is_in_order():
    keys = [term.lower().replace("β", "beta").replace("-", " ").replace("é", "e") for term in TERMS]
    assert len(TERMS) > 60 and keys == sorted(keys)


# -- literature ----------------------------------------------------------------------------------------------------

# Neither a DOI nor a preprint exists: what stands where it was published.
PUBLISHED = {
    "gretton2012kernel", "higgins2017beta", "hoffman2016elbo", "larochelle2011neural", "matthey2017dsprites",
    "sohn2015learning",
}  # fmt: skip


def test_every_work_has_a_lasting_link():
    works = parse_file(ROOT / "book" / "references.bib").entries
    links = {key: [work.fields.get("doi", ""), work.fields.get("url", "")] for key, work in works.items()}
    lasting = {key for key, (doi, url) in links.items() if doi or "//arxiv.org/abs/" in url}
    assert set(works) - lasting == PUBLISHED
    assert [key for key in PUBLISHED if not links[key][1].startswith("http")] == []
    assert [key for key, (doi, _) in links.items() if doi and not re.fullmatch(r"10\.\d{4,}/\S+", doi)] == []


def test_every_work_is_cited():
    citations = [keys for path in PAGES for keys in re.findall(r"\{cite:\w+\}`([^`]*)`", markdown(path))]
    cited = {key.strip() for keys in citations for key in keys.split(",")}
    assert cited == set(parse_file(ROOT / "book" / "references.bib").entries)
