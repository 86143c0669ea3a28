"""No other site is asked for anything, no chapter needs a network, and a build can be repeated."""

import ast
import filecmp
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, until

OFFLINE = ROOT / "tests" / "offline"
VIOLATIONS = """window.violations = [];
addEventListener('securitypolicyviolation', e => violations.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sample}`));"""

# ------------------------------------------------------------------------------------- Content-Security-Policy


def pages(site):
    return [path for path in sorted(site.html.rglob("*.html")) if "_static" not in path.parts]


def lasting(site):
    """Without the first page, which leads on at once, and the page for wrong addresses, which needs the published ones."""
    return [path for path in pages(site) if path.name not in ("index.html", "404.html")]


def policy(path):
    """The directives of a page, whose policy must stand before anything that could break it."""
    encoding, meta = BeautifulSoup(path.read_text().partition("<title>")[0], "html.parser").head.find_all(True)[:2]
    assert "charset" in encoding.attrs and meta["http-equiv"] == "Content-Security-Policy"
    return {name: values for name, *values in (part.split() for part in meta["content"].split(";"))}


def test_every_page_has_a_policy_that_names_no_other_site(site):
    for path in pages(site):
        directives = policy(path)
        assert directives["default-src"] == directives["base-uri"] == ["'none'"]
        assert set(directives) == {
            "default-src", "script-src", "style-src", "style-src-attr", "img-src", "font-src", "connect-src", "form-action", "base-uri",
        }  # fmt: skip
        allowed = {value for values in directives.values() for value in values if not value.startswith("'sha256-")}
        assert allowed == {"'none'", "'self'", "data:", "'unsafe-inline'", "'unsafe-hashes'", "'wasm-unsafe-eval'"}
        assert [name for name, values in directives.items() if "'unsafe-inline'" in values] == ["style-src-attr"]
        assert [name for name, values in directives.items() if "data:" in values] == ["img-src"]


@pytest.fixture
def watched(open_page):
    """A page that keeps what its policy has refused."""
    page = open_page()
    page.add_init_script(VIOLATIONS)
    return page


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_no_page_breaks_its_own_policy(site, watched, scheme):
    """Live figures run, compiled; nothing of a page is refused, over http and from the disk."""
    alive = 0
    for path in lasting(site):
        watched.goto(f"{site.url}/{path.relative_to(site.html)}" if scheme == "http" else path.as_uri(), wait_until="load")
        until(watched, "[...document.querySelectorAll('figure.live')].every(f => f.live)")
        watched.evaluate("scrollTo(0, document.body.scrollHeight)")
        engines = watched.evaluate("[...document.querySelectorAll('figure.live')].map(f => f.live.network.engine)")
        assert set(engines) <= {"WebAssembly"}, "compiling a kernel from bytes must be allowed"
        assert watched.evaluate("violations") == [], path.name
        alive += len(engines)
    assert alive >= 10
    assert watched.errors == []


def test_what_the_theme_does_by_scripts_is_allowed(site, watched):
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched.goto(f"{site.url}/book/04_closed_form_kl.html", wait_until="networkidle")
    root = "document.documentElement.dataset"
    before = watched.evaluate(f"{root}.mode")
    watched.locator("button.theme-switch-button").first.click()
    assert watched.evaluate(f"{root}.mode") != before

    code = watched.locator("div.highlight:has(button.copybtn)").first
    code.hover()
    code.locator("button.copybtn").click()
    until(watched, "document.querySelector('button.copybtn.success') !== null")
    assert watched.evaluate("navigator.clipboard.readText()").strip() in code.locator("pre").inner_text()

    answer = watched.query_selector(".admonition.dropdown.toggle-hidden")
    answer.query_selector("button.toggle-button").click()
    assert "toggle-hidden" not in answer.get_attribute("class")

    watched.evaluate("window.print = () => { window.printed = true; }")
    watched.evaluate("document.querySelector('[onclick=\"window.print()\"]').click()")
    assert watched.evaluate("window.printed"), "the theme's own onclick"
    assert watched.evaluate("violations") == [] and watched.errors == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_under_the_policy(site, watched, scheme):
    page = "search.html?q=reparameterisation"
    watched.goto(f"{site.url}/{page}" if scheme == "http" else f"{site.html.as_uri()}/{page}", wait_until="networkidle")
    watched.locator("#search-results li a", has_text="Glossary").first.wait_for(timeout=10_000)
    assert (watched.locator("#search-results .context").count() > 0) == (scheme == "http")  # quotes are fetched
    assert watched.evaluate("violations") == []


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Another site, which answers everyone and remembers who asked."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Type", "text/javascript")
        self.end_headers()
        self.wfile.write(b"window.intruder = true;")

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# Each asks the site at `url` for something, or runs a script that is not of the book.
INTRUSIONS = {
    "script": "document.head.append(Object.assign(document.createElement('script'), {src: url}))",
    "module": "document.head.append(Object.assign(document.createElement('script'), {src: url, type: 'module'}))",
    "style sheet": "document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: url}))",
    "image": "document.body.append(Object.assign(new Image(), {src: url}))",
    "background": "document.body.style.backgroundImage = `url(${url})`",
    "video": "document.body.append(Object.assign(document.createElement('video'), {src: url, autoplay: true}))",
    "frame": "document.body.append(Object.assign(document.createElement('iframe'), {src: url}))",
    "object": "document.body.append(Object.assign(document.createElement('object'), {data: url}))",
    "font": "new FontFace('other', `url(${url})`).load().catch(() => 0)",
    "fetch": "fetch(url).catch(() => 0)",
    "request": "{ const r = new XMLHttpRequest(); r.open('GET', url); r.send(); }",
    "beacon": "navigator.sendBeacon(url)",
    "socket": "new WebSocket(url.replace('http', 'ws'))",
    "events": "new EventSource(url)",
    "worker": "new Worker(URL.createObjectURL(new Blob([`fetch('${url}')`]))).onerror = () => 0",
    "form": "document.body.append(Object.assign(document.createElement('form'), {action: url, id: 'f', method: 'post'})); f.submit()",
    "inline script": "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.intruder = true'}))",
    "handler": "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.intruder = true\">')",
    "style": "document.head.append(Object.assign(document.createElement('style'), {textContent: 'h1 {display: none}'}))",
    "eval": "{ const s = document.createElement('button'); s.setAttribute('onclick', 'window.intruder = true'); s.click(); }",
}


def test_what_is_not_of_the_book_is_refused(site, watched, elsewhere):
    watched.goto(f"{site.url}/book/notation.html", wait_until="load")
    for name, intrusion in INTRUSIONS.items():
        watched.evaluate(f"url => {{ violations.length = 0; {intrusion} }}", f"http://127.0.0.1:{elsewhere.server_port}/{name}")
        until(watched, "violations.length")
    watched.wait_for_timeout(300)
    assert elsewhere.asked == [] and not watched.evaluate("window.intruder")
    assert watched.locator("h1:visible").count() == 1 and watched.url.startswith(site.url)


def test_the_intrusions_are_real(site, open_page, elsewhere):
    """Without the policy the other site is asked: what the test above sees refused would have happened."""
    page = open_page(bypass_csp=True)
    page.goto(f"{site.url}/book/notation.html", wait_until="load")
    for name in ("script", "image", "fetch"):
        page.evaluate(f"url => {{ {INTRUSIONS[name]} }}", f"http://127.0.0.1:{elsewhere.server_port}/{name}")
    until(page, "window.intruder")
    page.wait_for_timeout(300)
    assert sorted(elsewhere.asked) == ["/fetch", "/image", "/script"]


def test_a_script_that_was_altered_does_not_run(site, watched, tmp_path):
    """One character more in the module of the live figures: their still pictures stay."""
    page = next(path for path in pages(site) if path.name.startswith("04"))
    altered = page.with_name("altered.html")
    try:
        altered.write_text(page.read_text().replace('<script type="module">', '<script type="module">;'))
        watched.goto(altered.as_uri(), wait_until="load")
        assert watched.evaluate("violations").count("script-src-elem inline ") == 1 < watched.locator("figure.live").count()
        assert watched.locator("figure.live .live-poster img").first.is_visible()
    finally:
        altered.unlink()


# ---------------------------------------------------------------------------------------------- reproducible build


def test_a_second_build_gives_the_same_files(site, tmp_path):
    """In another folder, another time zone and with another seed of Python's hashes."""
    copy = tmp_path / "elsewhere" / "course"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "_build", "*.egg-info", "__pycache__", "mnist.npz"))
    target = re.search(r"^\t@\$\(BIN\)/(jupyter-book build .*) >/dev/null$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = [Path(sys.executable).with_name("jupyter-book"), *target.split()[1:]]
    surroundings = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8"}
    answer = subprocess.run(command, cwd=copy, env=surroundings, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    again = copy / "_build" / "html"
    files = [{path.relative_to(html).as_posix() for path in html.rglob("*") if path.is_file()} for html in (site.html, again)]
    assert files[0] == files[1] and len(files[0]) > 100
    assert [name for name in sorted(files[0]) if not filecmp.cmp(site.html / name, again / name, shallow=False)] == []


# ------------------------------------------------------------------------------------------------- without a network


def offline(code):
    paths = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import urllib.request; urllib.request.urlopen('https://example.org')",
        "import socket; socket.create_connection(('example.org', 80))",
        "import socket; socket.create_connection(('192.0.2.1', 80))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))",
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import socket as s; s.gethostbyname(\"example.org\")']))",
    ],
)
def test_the_network_is_cut_off(code):
    answer = offline(code)
    assert answer.returncode
    assert re.search("the network is cut off: no connection to (example.org|192.0.2.1)", answer.stderr)


def test_this_machine_can_still_be_asked(elsewhere):
    here = f"http.client.HTTPConnection('127.0.0.1', {elsewhere.server_port})"
    code = f"import http.client; c = {here}; c.request('GET', '/here'); print(c.getresponse().read())"
    assert "intruder" in offline(code).stdout and elsewhere.asked == ["/here"]


def test_all_chapters_are_run_with_the_network_cut_off(tmp_path):
    """By nbval, in `make test`: its own command fails on a notebook that reaches out, in a folder of its own."""
    source = "import urllib.request\nurllib.request.urlopen('https://example.org')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, execution_count=1)])
    nbformat.write(notebook, tmp_path / "out.ipynb")
    plan = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True).stdout
    (command,) = re.findall(r"^.*--nbval .* book$", plan, re.MULTILINE)
    command = command.removesuffix("book").replace(".venv/bin/python", sys.executable) + f"{tmp_path}"
    answer = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1 and "the network is cut off: no connection to example.org" in answer.stdout


REACHES_OUT = re.compile(r"https?://|\burllib\b|\brequests\b|\bdatasets\b|\bget_file\b|\bwget\b|\bcurl\b|\bpip\b|\bgit\b|\burlopen\b|from_pretrained")
GUARDED = {  # chapter: what in it may reach out, and is prepared to fail
    "12_going_further": {"keras.datasets.fashion_mnist.load_data()", "%pip install -q {missing}"},
}


def test_no_chapter_reaches_out_unguarded():
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        setup, *cells = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        assert setup.index('if "google.colab" in sys.modules:') < setup.index("%pip")
        for source in cells:
            for allowed in GUARDED.get(path.stem, ()):
                if allowed in source:
                    assert "if missing" in source or guarded(source, allowed), path.stem
                source = source.replace(allowed, "")
            assert not (found := REACHES_OUT.search(source)), f"{path.stem}: {found[0]} in {source[:80]!r}"


def guarded(source, call):
    """Whether `call` stands within a `try` that catches any exception."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Try) and any(call in ast.unparse(part) for part in node.body):
            return any(handler.type is None or ast.unparse(handler.type) == "Exception" for handler in node.handlers)
    return False
