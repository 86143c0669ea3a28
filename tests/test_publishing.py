"""Publishing: the address of the repository and what follows from it, and what runs on GitHub."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from functools import partial
from pathlib import Path
from urllib.parse import urlparse

import pytest
import serve
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from repository import check, read_address, rewrite

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
ADDRESS = CONFIG["repository"]["url"]
ELSEWHERE = "https://github.com/Some-One/a.copy"
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
JOBS = {f"{name}:{job}": body for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()}


# The address of the repository.

def address_problems(root):
    """Everywhere the address of `_config.yml`; what is missed here, a reader of a fork would find."""
    address = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    if yaml.safe_load((root / "CITATION.cff").read_text())["repository-code"] != address:
        yield "CITATION.cff"
    if f"git clone {address} " not in (root / "README.md").read_text():
        yield "README.md"
    for path in sorted((root / "book").glob("*.ipynb")):
        setup = next(cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code")["source"]
        if f' @ git+{address}"\n' not in "".join(setup):
            yield path.name


@pytest.fixture
def copy(tmp_path):
    """All that is of the course, but for what is built, installed or Git's own."""
    def built(folder, names):
        made = {".git", ".venv", "_build", "build", "dist"}
        return {name for name in names if name in made or name.endswith(("cache", "cache__", ".egg-info"))}

    return Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=built))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_repository(folder, url):
    command = ["make", "repository", f"URL={url}", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_address_is_the_same_everywhere():
    assert list(address_problems(ROOT)) == []
    assert read_address() == ADDRESS == check(ADDRESS)


def test_another_address_replaces_the_old_one_and_nothing_else(copy):
    before = contents(copy)
    assert make_repository(copy, ELSEWHERE + "/").returncode == 0
    after = contents(copy)
    assert list(address_problems(copy)) == []
    changed = {name for name in before if after[name] != before[name]}
    assert {"_config.yml", "README.md", "CITATION.cff", *(f"book/{path.name}" for path in NOTEBOOKS)} == changed
    owner_and_name = ADDRESS.removeprefix("https://github.com/").encode()
    assert [name for name in after if owner_and_name in after[name]] == []
    for name in changed:
        lines = zip(before[name].splitlines(), after[name].splitlines(), strict=True)
        assert all(ADDRESS.encode() in old and ELSEWHERE.encode() in new for old, new in lines if old != new)

    assert rewrite(ELSEWHERE, copy) == []
    rewrite(ADDRESS, copy)
    assert contents(copy) == before


def test_a_longer_address_is_another_one(copy):
    readme = copy / "README.md"
    longer = f"[Its sister]({ADDRESS}-2), [its site]({ADDRESS}.io), [it]({ADDRESS})."
    readme.write_text(readme.read_text() + longer)
    rewrite(ELSEWHERE, copy)
    assert readme.read_text().endswith(longer.replace(f"({ADDRESS})", f"({ELSEWHERE})"))


@pytest.mark.parametrize("url", [
    "", "https://github.com/one", "http://github.com/one/two", "git@github.com:one/two", "https://gitlab.com/one/two",
    "https://github.com/one/two/three", "https://github.com/-one/two", "https://github.com/one/..",
    "https://github.com/one/two three", "https://github.com/ö/two",
])
def test_what_is_no_address_is_refused(copy, url):
    before = contents(copy)
    answer = make_repository(copy, url)
    assert answer.returncode
    assert "is not the address of a repository" in answer.stderr and "Traceback" not in answer.stderr
    assert "make repository URL=https://github.com/OWNER/NAME" in answer.stderr
    assert contents(copy) == before


@pytest.mark.parametrize("url", [f"{ELSEWHERE}.git", f"{ELSEWHERE}/", f" {ELSEWHERE}"])
def test_an_address_as_one_copies_it(url):
    assert check(url) == ELSEWHERE


# The published pages.

def published(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import published

    return published


@pytest.mark.parametrize("repository, pages", [
    ("https://github.com/one/course", "https://one.github.io/course/"),
    ("https://github.com/Some-One/A.Course", "https://some-one.github.io/A.Course/"),
    ("https://github.com/One/one.github.io", "https://one.github.io/"),
])
def test_pages_are_where_github_serves_them(monkeypatch, repository, pages):
    assert published(monkeypatch).pages_address(repository) == pages


@pytest.fixture
def base(monkeypatch):
    return CONFIG["html"].get("baseurl") or published(monkeypatch).pages_address(ADDRESS)


def documents(site):
    return [path for path in sorted(site.html.rglob("*.html")) if path.parent.name == "book"]


def head(path):
    return BeautifulSoup(path.read_text().partition("</head>")[0], "html.parser")


def tags(path):
    found = {}
    for tag in head(path).select("meta[property], meta[name], link[rel=canonical]"):
        name = tag.get("property") or tag.get("name") or "canonical"
        found.setdefault(name, []).append(tag.get("content") or tag["href"])
    return found


def test_pages_say_what_others_show_of_them(site, base):
    assert len(documents(site)) > 12
    for path in documents(site):
        address = f"{base}book/{path.name}"
        found = tags(path)
        assert (found["canonical"], found["og:url"]) == ([address], [address]), path
        for name in ("og:title", "og:description", "og:image", "og:image:alt", "description", "twitter:card"):
            assert len(found[name]) == 1 and len(found[name][0]) > 5, (path, name)
        assert not re.search(r"[\\$]", found["description"][0] + found["og:description"][0]), path    # LaTeX
        assert (site.html / found["og:image"][0].removeprefix(base)).is_file()
    assert not (site.html / "_images" / "social_previews").exists()


def test_the_front_door_leads_in_and_has_the_same_preview(site, page):
    first, door = tags(site.html / "book" / "intro.html"), tags(site.html / "index.html")
    shown = [name for name in first if name.startswith("og:")] + ["description", "twitter:card", "canonical"]
    assert {name: door[name] for name in shown} == {name: first[name] for name in shown}
    page.goto(site.url, wait_until="networkidle")
    page.wait_for_url(f"{site.url}/book/intro.html")
    assert page.errors == []


def test_pages_have_an_icon(site):
    for path in [*documents(site), site.html / "404.html"]:
        icon = head(path).select_one("link[rel~=icon]")["href"]
        assert icon.endswith("_static/favicon.svg")
    assert "<svg" in (site.html / "_static" / "favicon.svg").read_text()


class GitHubPages(serve.Handler):
    """The pages below /NAME/, and 404.html for everything that is not there."""

    def translate_path(self, path):
        inside = path.startswith(self.prefix)
        return super().translate_path("/" + path.removeprefix(self.prefix) if inside else "/not/there")

    def send_error(self, code, *arguments, **options):
        content = Path(self.directory, "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def github(site, base, monkeypatch):
    prefix = urlparse(base).path
    monkeypatch.setattr(GitHubPages, "prefix", prefix, raising=False)
    with serve.Server(("127.0.0.1", 0), partial(GitHubPages, directory=site.html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("missing", ["nowhere", "book/nowhere.html", "a/b/c/"])
def test_a_wrong_address_shows_a_page_that_works(github, open_page, missing, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    failed = []
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    answer = page.goto(github + missing, wait_until="networkidle")
    assert answer.status == 404
    assert failed == [github + missing]
    assert all("404 (Not Found)" in error for error in page.errors) and len(page.errors) <= 1
    assert {urlparse(url).netloc for url in page.requests} <= {urlparse(github).netloc, ""}
    assert page.locator("h1:visible").inner_text() == "Page not found"
    assert "sans-serif" in page.locator("h1:visible").evaluate("one => getComputedStyle(one).fontFamily")
    assert [(v["id"], v["nodes"][0]["html"]) for v in Axe().run(page).response["violations"]] == []
    page.locator("article a", has_text="first page").click()
    page.wait_for_url(f"{github}book/intro.html")


def test_a_wrong_address_is_no_address_of_its_own(site):
    assert "canonical" not in tags(site.html / "404.html")


# What runs on GitHub.

def run(program, *arguments):
    """One of the linters, which come from PyPI; neither needs the network."""
    answer = subprocess.run([Path(sys.prefix, "bin", program), *arguments], capture_output=True, text=True)
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def lint(folder):
    """What is misspelt in the workflows, and what makes them unsafe."""
    workflows = sorted((folder / "workflows").glob("*.yml"))
    audit = ("--offline", "--quiet", "--no-progress", "--color=never", "--config", GITHUB / "zizmor.yml")
    yield run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    yield run("zizmor", *audit, folder)


def test_workflows_are_sound():
    assert "".join(lint(GITHUB)) == ""
    assert run("check-jsonschema", "--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml") == ""
    assert run("check-jsonschema", "--builtin-schema", "vendor.citation-file-format", ROOT / "CITATION.cff") == ""


BREAKERS = {
    "'stepps' was unexpected": ("    steps:", "    stepps:"),
    "{'branch': ['main']}": ("    branches: [main]", "    branch: [main]"),
    "template-injection": ("- run: .ci/run", "- run: .ci/run ${{ github.head_ref }}"),
    "excessive-permissions": ("permissions:\n  contents: read", "permissions: write-all"),
    "artipacked": ("        with:\n          persist-credentials: false\n", ""),
    "unpinned-uses": ("actions/cache@v6", "somebody/cache@v6"),
    "dangerous-triggers": ("  pull_request:", "  pull_request_target:"),
}


@pytest.mark.parametrize("finding", BREAKERS)
def test_the_linter_finds(tmp_path, finding):
    old, new = BREAKERS[finding]
    workflow = (GITHUB / "workflows" / "ci.yml").read_text()
    assert old in workflow
    broken = tmp_path / ".github" / "workflows" / "ci.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text(workflow.replace(old, new))
    assert finding in "".join(lint(tmp_path / ".github"))


@pytest.mark.parametrize("name", JOBS)
def test_jobs_end_and_wait_for_jobs_that_exist(name):
    job = JOBS[name]
    workflow = WORKFLOWS[name.partition(":")[0]]
    assert job.get("needs") in {None, *workflow["jobs"]}
    assert 0 < job["timeout-minutes"] <= 150
    assert "secrets" not in json.dumps(job)
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_permissions_are_the_least():
    granted = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert granted == {"ci.yml:publish": {"pages": "write", "id-token": "write"}}
    assert {json.dumps(workflow["permissions"]) for workflow in WORKFLOWS.values()} == {'{"contents": "read"}'}


def test_what_is_published_is_what_was_tested():
    test, publish = JOBS["ci.yml:test"]["steps"], JOBS["ci.yml:publish"]
    upload = next(step["with"] for step in test if step.get("uses", "").startswith("actions/upload-artifact"))
    assert upload["path"] == "_build/html"
    assert [step.get("run") for step in test][-2:] == [".ci/run", None]
    download, pages, deploy = publish["steps"]
    assert download["with"] == {"name": upload["name"], "path": pages["with"]["path"]}
    assert publish["needs"] == "test" and "github.event_name == 'push'" in publish["if"]
    assert deploy["uses"].startswith("actions/deploy-pages")


def test_github_runs_what_a_reader_can_run():
    """Commands are `.ci/run` or targets of the Makefile, but for preparing a bare machine, Colab and the audit."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    others = ("apt-get update && apt-get install ", "sudo rm -rf /", "docker run ", "pip install --quiet pip-audit", "pip-audit ")
    for name, job in JOBS.items():
        for command in (step["run"] for step in job["steps"] if "run" in step):
            found = re.fullmatch(r"(?:\.ci/run|make)(?: (\w+))?", command)
            assert found[1] in {None, *targets} if found else command.startswith(others), (name, command)


def test_ci_run_gives_the_pages_the_address_they_are_published_under(copy):
    """`make` is only called, so that nothing is installed: the first call changes the address, the second one tests."""
    programs = copy / "bin"
    programs.mkdir()
    (programs / "make").write_text('#!/bin/sh\necho "$CI make $*"\n')
    (programs / "chromium").touch()
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "Some-One/a.copy"}
    for arguments, target in ([], "test"), (["newest"], "newest"):
        command = [copy / ".ci" / "run", *arguments]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert answer.stdout.splitlines() == [f" make repository URL={ELSEWHERE}", f"true make {target}"]


def test_colab_is_given_what_its_setup_cell_would_install():
    (command,) = (step["run"] for step in JOBS["weekly.yml:colab"]["steps"] if "docker" in step.get("run", ""))
    assert "us-docker.pkg.dev/colab-images/public/runtime" in command
    assert "pip install --quiet --no-deps /course\n" in command
    assert "execute.py *.ipynb" in command


# The version.

def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert releases[0] == version == yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
