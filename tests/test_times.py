"""What the book says about a chapter's time and memory is what was measured: `make bench BENCH="--only execute"`."""

import re
import subprocess
import sys

import nbformat
import pytest
from benchmarks.book import Memory, executed
from conftest import ROOT

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
LIMIT = 2.0  # GB, of a kernel on Binder
WORDS = {"a": 1, "two": 2, "three": 3, "four": 4, "five": 5, "eight": 8, "nine": 9, "ten": 10}


def in_intro():
    """{number: (minutes to read, seconds to run, GB or None)}, from the table of the front page."""
    row = r"^\| (\d+) \| .* \| (\d+)\smin to read, (\d+)\ss to run(?:, (\d\.\d)\sGB)? \|$"
    rows = re.findall(row, (ROOT / "book" / "intro.md").read_text(), re.MULTILINE)
    return {int(n): (int(read), int(run), float(gb) if gb else None) for n, read, run, gb in rows}


def in_box(path):
    """(minutes to read, seconds to run), from the box at the head of the chapter."""
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells[:3])
    pattern = r"\*\*Time\*\*: (\d+) minutes to read; (?:about )?(\w+) (second|minute)s? to run"
    read, run, unit = re.search(pattern, text).groups()
    return int(read), (WORDS.get(run) or int(run)) * (60 if unit == "minute" else 1)


def rounded(seconds):
    step = 5 if seconds < 60 else 10
    return max(step, step * round(seconds / step))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_front_page_and_chapter_say_the_same(path):
    read, run, _ = in_intro()[int(path.name[:2])]
    box_read, box_run = in_box(path)
    assert box_read == read
    assert abs(box_run - run) <= 0.1 * run, f"the chapter says {box_run} s, the front page {run} s"


def test_front_page_says_what_was_measured():
    for stem, (seconds, gigabytes) in executed().items():
        measured = rounded(seconds), round(gigabytes, 1)
        assert in_intro()[int(stem[:2])][1:] == measured, "{}: {} s to run, {} GB".format(stem, *measured)


def test_every_chapter_stays_within_binders_memory():
    assert {stem: gigabytes for stem, (_, gigabytes) in executed().items() if gigabytes >= LIMIT} == {}


def test_chapters_are_measured_together():
    """Numbers of one run, on one machine; none at all until it has been done."""
    assert set(executed()) in (set(), {path.stem for path in CHAPTERS})


def test_record_is_read_as_it_is_written(tmp_path):
    rows = ["| 01_a | 40 | 1.62 |", "| 02_b | failed | 1.00 |", "| all | 40 |  |", "| network | 33 | 1.00 |"]
    (tmp_path / "r.md").write_text("\n".join(rows))
    assert executed(tmp_path / "r.md") == {"01_a": (40, 1.62)}


HOLD = "import sys; held = bytearray(b'1') * (200 << 20); {}print(flush=True); sys.stdin.read()"
START = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.parametrize("arguments", [[HOLD.format("del held; ")], [START, HOLD.format("")]], ids=["gone", "started"])
def test_memory_counts_what_is_gone_and_what_was_started(arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", *arguments], **pipes) as process:
        with Memory(process.pid) as memory:
            process.stdout.readline()    # by now it holds, or has held, 200 MiB
        process.stdin.close()
        process.wait(60)
    assert 200 << 20 < memory.peak < 300 << 20
