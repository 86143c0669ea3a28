"""How fast the live figures answer and how heavy the pages are, measured on the built book in headless Chromium."""

import gzip
import re
import shutil
import statistics
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.report import Unavailable, table
from helpers.live.figure import _module, _runtime

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from serve import make_server  # noqa: E402

HTML = ROOT / "_build" / "html"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SLOWER = 1, 4    # times; the second stands for a phone
ASIDE = re.compile("/_(?:figures|images)/")
LATER = re.compile(r'src="([^"]*/_(?:figures|images)/[^"]+)"')

# Moves a figure's first slider to 200 places. The first number is the time inside the event, in which the figure is
# computed and drawn; the second ends with the frame that shows it.
MOVE = """async (figure) => {
  const slider = figure.querySelector('input[type=range]'), inside = [], shown = [];
  if (!slider) return null;
  for (let i = 0; i < 220; i++) {
    await new Promise(requestAnimationFrame);
    const { min, max } = slider, start = performance.now();
    slider.value = Number(min) + Math.random() * (max - min);
    slider.dispatchEvent(new Event('input'));
    const done = performance.now();
    await new Promise(r => requestAnimationFrame(() => {
      const c = new MessageChannel(); c.port1.onmessage = r; c.port2.postMessage(0);
    }));
    if (i >= 20) { inside.push(done - start); shown.push(performance.now() - start); }
  }
  return [inside, shown];
}"""


def packed(data):
    return len(gzip.compress(data, 9, mtime=0))


def quantiles(times):
    return [f"{statistics.median(times):.1f}", f"{statistics.quantiles(times, n=20)[-1]:.1f}"]


def weigh(page, url, path):
    """gzipped bytes: the page's own file, its models, its pictures, and what all pages share (style, scripts, fonts)."""
    bodies = {}
    page.on("response", lambda r: bodies.setdefault(r.url, r))
    page.goto(url, wait_until="networkidle")
    own = path.read_bytes()
    later = {path.parent.joinpath(name).resolve() for name in LATER.findall(own.decode())}
    sizes = {file: packed(file.read_bytes()) for file in later}
    models = sum(n for file, n in sizes.items() if file.suffix == ".js")
    shared = {u: r for u, r in bodies.items() if u != url and r.status == 200 and not ASIDE.search(u)}
    return packed(own), models, sum(sizes.values()) - models, sum(packed(r.body()) for r in shared.values())


def weigh_all(browser, urls):
    for path, url in urls.items():
        page = browser.new_page()
        own, models, pictures, shared = (n / 1000 for n in weigh(page, url, path))
        page.close()
        yield [path.stem, *(f"{n:.0f}" for n in (own, models, pictures, own + models + pictures, shared))]


def time_figures(browser, name, url):
    """A row for each live figure that has a slider."""
    rows = {}
    for slower in SLOWER:
        page = browser.new_page()
        page.goto(url)
        page.locator("figure.live:not(:has(.live-stage))").first.wait_for(state="detached")
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        for i, figure in enumerate(page.query_selector_all("figure.live"), 1):
            if times := figure.evaluate(MOVE):
                row = rows.setdefault(i, [f"{name}, figure {i}"])
                row += [cell for kind in times for cell in quantiles(kind)]
                print(*row, flush=True)
        page.close()
    return list(rows.values())


def pages(options):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        raise Unavailable("Chromium is not installed; on Debian and Ubuntu: sudo apt install chromium")
    files = sorted(HTML.glob("book/*.html"))
    if not files:
        raise Unavailable("the book is not built; run make book")
    with make_server(HTML) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        version = browser.version
        urls = {path: f"http://127.0.0.1:{server.server_port}/{path.relative_to(HTML)}" for path in files}
        sizes = list(weigh_all(browser, urls))
        live = {path: url for path, url in urls.items() if 'class="live"' in path.read_text(encoding="utf-8")}
        times = [row for path, url in live.items() for row in time_figures(browser, path.stem, url)]
        server.shutdown()
    engine, runtime = (packed(text.encode()) / 1000 for text in (_module("engine.mjs"), _runtime()))
    what_times = (
        f"Headless Chromium {version.partition('.')[0]}, each figure's first slider moved to 200 places. *Drawn*: from "
        "the slider's event until the figure is computed and drawn. *Shown*: until the frame that shows it is out, at "
        "60 frames a second. CPU ÷ 4: with the processor slowed four times, which stands for a phone. Figures without "
        "a slider are left out."
    )
    what_weights = (
        "Weights, gzipped kB. *Page*: what has to arrive before the text is shown. *Its models*: of its live figures, "
        "and *its pictures*: fetched when it is shown. *Shared*: style, scripts and fonts, which a reader "
        f"fetches once for all pages. The live engine, as a page carries it, is {engine:.1f} kB; with what draws figures "
        f"and sliders {runtime:.1f} kB."
    )
    columns = ["ms"] + [
        f"{what}, {at}, CPU ÷ {slower}" for slower in SLOWER for what in ("drawn", "shown") for at in ("median", "95 %")
    ]
    weight_columns = ["gzipped kB", "page", "its models", "its pictures", "together", "shared"]
    return "\n\n".join([what_times, table(columns, times), what_weights, table(weight_columns, sizes)])
