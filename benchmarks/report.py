"""RESULTS.md: one part for each section of the benchmarks, written by the command and never by hand."""

import datetime
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# What `make bench` measured

Written by the command, one part for each section; a run of some sections leaves the others as they are. Seconds are
those of the machine named under each heading: compare rows of one part with each other, not with another machine's."""


class Unavailable(Exception):
    """A section cannot be measured here; the message says why."""


def table(columns, rows):
    """Markdown, numbers to the right. Rows are sequences of strings, the first column is text."""
    head = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in head)


def nats(value):
    return f"{value:.1f}".replace("-", "−")


def machine():
    """Processor, cores, memory, system and versions; no names of hosts, users or folders."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = found[1] if found else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    packages = [f"{name} {found}" for name in ("Keras", "TensorFlow", "NumPy") if (found := installed(name))]
    python = f"Python {platform.python_version()}"
    return "; ".join([f"{processor}, {cores} cores", f"{memory:.0f} GB", system, python, *packages])


def installed(name):
    for distribution in (name, f"{name}-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            pass
    return None


def store(heading, body, order, path=RESULTS):
    """Puts a section into the file, in place of what it said before; `order`: all headings, as they shall stand."""
    parts = {}
    if path.exists():
        for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            name, _, text = part.partition("\n")
            parts[name] = text.strip()
    parts[heading] = f"*{datetime.date.today().isoformat()}; {machine()}.*\n\n{body}"
    known = [name for name in order if name in parts]
    text = "\n\n".join([HEAD, *(f"## {name}\n\n{parts[name]}" for name in known)])
    path.write_text(text + "\n", encoding="utf-8")
