"""How fast the live figures answer and how heavy the pages are, measured on the built book in headless Chromium.

python benchmarks/pages.py          after `make book`; `make bench` does both
"""

import gzip
import re
import shutil
import statistics
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

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

# Moves one slider to 200 places. The first number is the time inside the event, in which the figure is computed and
# drawn; the second ends with the frame that shows it.
MOVE = """async (figure) => {
  const slider = figure.querySelector('input[type=range]'), inside = [], shown = [];
  for (let i = 0; i < 220; i++) {
    await new Promise(requestAnimationFrame);
    const { min, max } = slider, start = performance.now();
    slider.value = Number(min) + Math.random() * (max - min);
    slider.dispatchEvent(new Event('input'));
    const done = performance.now();
    await new Promise(r => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = r; c.port2.postMessage(0); }));
    if (i >= 20) { inside.push(done - start); shown.push(performance.now() - start); }
  }
  return [inside, shown];
}"""


def packed(data):
    return len(gzip.compress(data, 9, mtime=0))


def quantiles(times):
    return f"{statistics.median(times):6.2f} {statistics.quantiles(times, n=20)[-1]:6.2f}"


def weights(page, url, path):
    """gzipped bytes: the page's own file, its pictures, and what all pages share (style, scripts, fonts)."""
    bodies = {}
    page.on("response", lambda r: bodies.setdefault(r.url, r))
    page.goto(url, wait_until="networkidle")
    own = packed(path.read_bytes())
    sizes = {u: packed(r.body()) for u, r in bodies.items() if u != url and r.status == 200}
    pictures = sum(n for u, n in sizes.items() if "/_images/" in u)
    return own, pictures, sum(sizes.values()) - pictures


def main():
    from helpers.live.figure import _module, _runtime

    for what, text in (("engine", _module("engine.mjs")), ("engine and figure", _runtime())):
        print(f"{what}, as a page carries it: {packed(text.encode()) / 1000:.1f} kB gzipped")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with make_server(HTML) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        print("\ngzipped kB: page itself, its pictures, both; shared by all pages")
        live = []
        for path in sorted(HTML.glob("book/*.html")):
            page = browser.new_page()
            url = f"http://127.0.0.1:{server.server_port}/{path.relative_to(HTML)}"
            own, pictures, shared = (n / 1000 for n in weights(page, url, path))
            print(f"{path.stem:28} {own:6.0f} {pictures:6.0f} {own + pictures:6.0f} {shared:6.0f}")
            if re.search('class="live"', path.read_text(encoding="utf-8")):
                live.append(url)
            page.close()
        print("\nmilliseconds from slider input: median and 95 % until drawn, median and 95 % until the frame is out")
        for url in live:
            for slower in (1, 4):
                page = browser.new_page()
                page.goto(url)
                page.wait_for_function("[...document.querySelectorAll('figure.live')].every(f => f.live)")
                page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
                for i, figure in enumerate(page.query_selector_all("figure.live")):
                    inside, shown = figure.evaluate(MOVE)
                    name = f"{Path(url).stem}, figure {i + 1}, CPU {slower}x slower"
                    print(f"{name:48} {quantiles(inside)}   {quantiles(shown)}")
                page.close()
        server.shutdown()


if __name__ == "__main__":
    main()
