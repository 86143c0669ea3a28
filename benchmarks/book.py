"""How long it takes to build the book from its stored outputs, and to run its chapters."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from time import perf_counter

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from benchmarks.report import RESULTS, Unavailable, table

ROOT = Path(__file__).parent.parent

ROW = re.compile(r"^\| (\d\d_\w+) \| (\d+) \| (\d+\.\d+) \|$", re.MULTILINE)    # of a chapter that was executed


def build(options):
    """The pages from the working tree, all of them anew; and a fresh clone's way to its first page."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT, "--all", "-W", "-n", "--keep-going", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        answer = subprocess.run([*command, "--path-output", folder], check=False, stdout=subprocess.DEVNULL)
        seconds = perf_counter() - start
    if answer.returncode:
        raise Unavailable("the book does not build; the messages are above")
    print(f"build: {seconds:.1f} s", flush=True)
    rows = [["all pages, from the notebooks with their stored outputs (no TensorFlow)", f"{seconds:.0f}"]]
    first = first_page()
    if first:
        rows.append(["a fresh clone's `make serve` up to its first page, packages from a cache", f"{first:.0f}"])
    notes = [] if first else ["A fresh clone could not be served, so its time is missing here."]
    return "\n\n".join([table(["", "seconds"], rows), *notes])


def first_page():
    """Seconds from a fresh clone's `make serve` to an answer, or None."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        start = perf_counter()
        process = subprocess.Popen(
            ["make", "serve"], cwd=folder, stdout=subprocess.PIPE, text=True,
            start_new_session=True,    # a process group of its own, so that the server that `make` starts ends with it
        )  # fmt: skip
        try:
            address = next((m.group() for line in process.stdout if (m := re.search(r"http://[\d.]+:\d+", line))), None)
            if address is None:
                return None
            with urllib.request.urlopen(address) as answer:
                return perf_counter() - start if answer.status == 200 else None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def execute(options):
    """Every chapter in a kernel of its own, in a copy of the book: seconds and the most memory that it held.

    `book/intro.md` and the chapters quote these numbers, and tests/test_times.py compares.
    """
    wanted = options.chapters or [path.name[:2] for path in sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))]
    rows, total, failed = [], 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT / "book", Path(folder, "book"))
        found = {number: sorted(copy.glob(f"{number}_*.ipynb")) for number in wanted}
        if missing := [number for number, paths in found.items() if not paths]:
            raise Unavailable(f"the book has no chapter {', '.join(missing)}")
        for path in (path for paths in found.values() for path in paths):
            seconds, peak, error = run_chapter(path)
            total += seconds
            failed += [f"{path.stem}: {error}"] if error else []
            rows.append([path.stem, "failed" if error else f"{seconds:.0f}", f"{peak / 1e9:.2f}" if peak else ""])
            print(*rows[-1], error, flush=True)
    rows.append(["all", f"{total:.0f}", ""])
    text = (
        "Each chapter in a fresh kernel, imports and training included; GB: the most memory that its kernel held, with "
        "the processes that it started."
    )
    return "\n\n".join([text, table(["chapter", "seconds", "GB"], rows), *(f"Failed: {line}." for line in failed)])


def run_chapter(path):
    """(seconds, peak bytes, what went wrong or "")."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    start, error = perf_counter(), ""
    with client.setup_kernel(), Memory(client.km.provisioner.pid) as memory:
        try:
            for i, cell in enumerate(notebook.cells):
                client.execute_cell(cell, i)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as reason:
            error = getattr(reason, "ename", "") or type(reason).__name__
        seconds = perf_counter() - start
    return seconds, memory.peak, error


class Memory(threading.Thread):
    """The most memory that a process held with those that it started, as a context manager; `peak`, in bytes.

    A process counts with its resident memory, those that it started with what is theirs alone, ten times a second. What
    the process itself held in between is known to Linux.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.process, self.peak, self._done = psutil.Process(pid), 0, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def run(self):
        while not self._done.wait(0.1):
            self.look()

    def look(self):
        try:
            own = self.process.memory_info().rss
            started = self.process.children(recursive=True)
        except psutil.Error:    # it has ended
            return
        for child in started:
            try:
                own += child.memory_full_info().uss
            except psutil.Error:
                pass
        self.peak = max(self.peak, own)

    def __exit__(self, *exception):
        self._done.set()
        self.join()
        self.look()
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)):
            self.peak = max(self.peak, int(found[1]) * 1024)


def executed(path=RESULTS):
    """What `execute` stored: {chapter: (seconds, GB)}."""
    rows = ROW.findall(path.read_text(encoding="utf-8"))
    return {name: (int(seconds), float(gigabytes)) for name, seconds, gigabytes in rows}
