"""Seconds from a fresh clone's `make serve` to the first page, with whatever packages the machine has in its cache."""

import re
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        start = time.perf_counter()
        process = subprocess.Popen(["make", "serve"], cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            address = next(m.group() for line in process.stdout if (m := re.search(r"http://[\d.]+:\d+", line)))
            with urllib.request.urlopen(address) as answer:
                assert answer.status == 200
            print(f"fresh clone, make serve, first page: {time.perf_counter() - start:.0f} s")
        finally:
            subprocess.run(["pkill", "-P", str(process.pid)], check=False)
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
