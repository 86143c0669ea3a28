"""The lock, the Makefile's messages and the repository's own hygiene."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib

import pytest
import yaml
from conftest import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] not in " #"]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_lock_pins_what_is_declared(declared, python):
    declared = Requirement(declared)
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    if declared.marker and not declared.marker.evaluate(environment):
        pytest.skip("for another platform")
    pins = [pin for pin in LOCK if normal(pin.name) == normal(declared.name)]
    pins = [pin for pin in pins if not pin.marker or pin.marker.evaluate(environment)]
    assert len(pins) == 1, "run `make lock`"
    (specifier,) = pins[0].specifier
    assert specifier.operator == "=="
    assert specifier.version in declared.specifier, "run `make lock`"


def test_lock_says_how_it_was_made_and_not_where():
    head, *body = (ROOT / "requirements.lock").read_text().split("\n", 2)[1:]
    makefile = (ROOT / "Makefile").read_text()
    assert head.lstrip("# ") == re.search(r"^LOCK +:= (.*)$", makefile, re.MULTILINE)[1]
    assert not re.search(r"^--|https?://|file:| @ |(^|\s)/\w+", body[0], re.MULTILINE)


# The Makefile, run with a Python that is not what it should be.

def fake_python(folder, prelude):
    """A `python3` that runs `prelude` before the script it is given."""
    runner = folder / "runner.py"
    runner.write_text(f"import runpy, sys\nsys.argv.pop(0)\n{prelude}\nrunpy.run_path(sys.argv[0], run_name='__main__')\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{runner}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture
def course(tmp_path):
    """A copy of what `make serve` reads before it builds, and a PATH without uv."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "sed", "find", "touch", "rm"):
        (tools / name).symlink_to(shutil.which(name))
    return tmp_path


def make(course, *arguments, **environment):
    return subprocess.run(
        ["make", *arguments], cwd=course, capture_output=True, text=True,
        env={"PATH": str(course / "bin"), "HOME": str(course), **environment},
    )


def test_make_alone_explains(course):
    answer = make(course)
    assert answer.returncode == 0
    targets = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert [target for target in targets if f"make {target}" not in answer.stdout] == []


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 14), (3, 99, 0)], ids=str)
def test_make_refuses_other_pythons(course, version):
    python = fake_python(course, f"sys.version_info = {version}")
    answer = make(course, "serve", f"PYTHON={python}")
    assert answer.returncode
    assert f"This is Python {version[0]}.{version[1]}; the course needs 3.11 to" in answer.stderr
    assert "PYTHON=" in answer.stderr and "Traceback" not in answer.stderr
    assert not (course / ".venv").exists()


def test_make_says_that_venv_is_missing(course):
    python = fake_python(course, "sys.modules['ensurepip'] = None")
    answer = make(course, "serve", f"PYTHON={python}")
    assert answer.returncode
    assert "sudo apt install python3-venv" in answer.stderr and "Traceback" not in answer.stderr
    assert not (course / ".venv").exists()


def test_make_says_that_a_download_failed(course):
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    answer = make(course, "serve", f"PYTHON={sys.executable}", **offline)
    assert answer.returncode
    assert "The packages could not be installed" in answer.stderr and "Traceback" not in answer.stderr
    assert not (course / ".venv" / ".pages").exists()


# KaTeX, which comes from npm.

def sha512(content):
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def test_katex_that_was_altered_is_refused(tmp_path):
    from install import unpack_katex

    archive = tmp_path / "katex.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(SystemExit, match="(?s)is not what it should be.*" + re.escape(sha512(b"something else"))):
        unpack_katex(archive, tmp_path / "katex")
    assert not (tmp_path / "katex").exists()


def test_katex_is_unpacked_once_and_in_part(tmp_path, monkeypatch):
    import install

    wanted = {"LICENSE": "package/LICENSE", "katex.min.js": "package/dist/katex.min.js", "fonts/A.woff2": "package/dist/fonts/A.woff2"}
    others = ["package/package.json", "package/dist/katex.js", "package/dist/fonts/A.ttf", "package/dist/fonts/../../../out.woff2"]
    archive, folder = tmp_path / "katex.tgz", tmp_path / "in" / "katex"
    with tarfile.open(archive, "w:gz") as tar:
        for name in [*wanted.values(), *others]:
            tar.addfile(tarfile.TarInfo(name))
    monkeypatch.setattr(install, "KATEX_SHA512", sha512(archive.read_bytes()))
    install.unpack_katex(archive, folder)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"katex.tgz", "in/katex/sha512", *(f"in/katex/{name}" for name in wanted)}
    install.install_katex("no Python is needed any more", folder)


def test_make_says_that_katex_could_not_be_downloaded(tmp_path, monkeypatch):
    from install import install_katex

    for name, value in {"registry": "http://127.0.0.1:9/", "fetch_retries": "0", "cache": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    with pytest.raises(SystemExit, match="could not be downloaded from npm"):
        install_katex(sys.executable, tmp_path / "katex")
    assert not (tmp_path / "katex").exists()


def test_install_covers_the_python_of_the_lock():
    """The newest Python that `make` accepts has a build of the locked TensorFlow; the oldest is pyproject's."""
    from install import NEWEST, OLDEST

    assert PROJECT["requires-python"] == ">={}.{}".format(*OLDEST)
    assert OLDEST <= sys.version_info[:2] <= NEWEST


# Hygiene.

def test_helpers_do_nothing_at_import():
    seen = "import sys, helpers; print(sorted({name.partition('.')[0] for name in sys.modules} & {'tensorflow', 'keras', 'jax', 'numpy'}))"
    answer = subprocess.run([sys.executable, "-W", "error", "-c", seen], cwd=ROOT, capture_output=True, text=True)
    assert (answer.stdout.strip(), answer.stderr) == ("[]", "")


def text_files():
    skipped = {".git", ".venv", "_build", ".pytest_cache", "__pycache__", ".hypothesis", ".ipynb_checkpoints", "build", "dist"}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not skipped & set(parts) and not any(part.endswith(".egg-info") for part in parts):
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                pass    # pictures, fonts and data


def test_no_file_names_this_machine_or_a_mirror():
    home, root = str(ROOT.home()), str(ROOT)
    places = [re.escape(place) for place in {root, f"{home}/"} if place.count("/") > 1]
    pattern = re.compile("|".join([*places, r"/root/", r"/home/\w+/", r"/tmp/\w", r"/Users/\w", r"index[-_]url ?=? ?http", "files\\.pythonhosted"]))
    found = [(path.relative_to(ROOT).as_posix(), match[0]) for path, text in text_files() if (match := pattern.search(text))]
    assert [item for item in found if item[0] != "tests/test_environment.py"] == []


def test_binary_files_are_digits_and_pictures():
    """What others made is fetched when it is needed, in a pinned version; here is only what the course made or measures."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a Git working tree")
    text = {path.relative_to(ROOT).as_posix() for path, _ in text_files()}
    binary = {name for name in listing.stdout.splitlines() if (ROOT / name).is_file()} - text
    assert "helpers/data/mnist.npz" in binary
    assert [name for name in binary if not re.fullmatch(r"helpers/data/mnist\.npz|book/_static/[\w-]+\.(png|webp|gif)", name)] == []


def test_the_readme_shows_and_links_what_exists():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert any(target.endswith(".png") for target in targets)
    assert [target for target in targets if not (ROOT / target).exists()] == []
