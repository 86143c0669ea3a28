"""environment.yml, from which Binder builds: what it asks for is in the lock, and Binder takes it as it is meant."""

import re
import subprocess
import sys
from importlib.metadata import requires

import pytest
import yaml
from conftest import ROOT
from install import NEWEST, OLDEST
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_environment import LOCK, PROJECT

*CONDA, PIP = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
PYTHON = next(line.removeprefix("python=") for line in CONDA if line.startswith("python="))


@pytest.fixture(scope="module")
def wanted():
    """What pip is to install, apart from the course itself and with its extras in place of its name."""
    lines = [line for line in PIP["pip"] if not line.startswith("--")]
    (editable,) = re.findall(r"^--editable \.\[([\w,]+)\]$", "\n".join(PIP["pip"]), re.MULTILINE)
    extras = [line for extra in editable.split(",") for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in (*lines, *PROJECT["dependencies"], *extras)]


def test_binder_installs_with_the_lock_on_a_python_of_the_course(wanted):
    assert "--constraint requirements.lock" in PIP["pip"]
    assert OLDEST <= tuple(map(int, PYTHON.split("."))) <= NEWEST
    assert {"keras", "jupyterlab"} <= {requirement.name for requirement in wanted}


def test_everything_that_binder_installs_is_locked(wanted):
    """Down to the last dependency of a dependency, as the packages that are installed here declare them."""
    binder = default_environment() | {
        "python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
    }  # fmt: skip
    pins = {canonicalize_name(pin.name): pin for pin in LOCK if not pin.marker or pin.marker.evaluate(binder)}
    left, seen, problems = [(requirement, "") for requirement in wanted], set(), []
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(binder | {"extra": extra}):
            continue
        if name not in pins or not requirement.specifier.contains(next(iter(pins[name].specifier)).version, True):
            problems.append(f"{requirement}: locked is {pins.get(name)}")
            continue
        for part in {(name, extra) for extra in ("", *requirement.extras)} - seen:
            seen.add(part)
            left += [(Requirement(line), part[1]) for line in requires(name) or ()]
    assert problems == []
    assert len(seen) > 50


def test_repo2docker_builds_from_environment_yml():
    """Without Docker, and without building: the recipe of the image that Binder would build."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    recipe = answer.stdout + answer.stderr
    assert answer.returncode == 0, recipe[-2000:]
    assert f"Building conda environment for python={PYTHON}" in recipe
    assert re.search(r'env update -p \$\{NB_PYTHON_PREFIX\} --file "environment.yml"', recipe)
    # the course itself is installed in place, so the sources must be there before it
    assert recipe.index("COPY --chown=0:0 src/ ${REPO_DIR}/") < recipe.index('--file "environment.yml"')
