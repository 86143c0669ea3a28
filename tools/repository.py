"""Give the course another address: `python3 tools/repository.py https://github.com/OWNER/NAME`.

The address stands in `repository.url` of _config.yml, and wherever somebody reads it before anything is built. Standard
library only, since this runs before anything is installed.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = ("_config.yml", "README.md", "CITATION.cff", "book/*.ipynb")
ADDRESS = re.compile(r"https://github\.com/[A-Za-z\d](?:-?[A-Za-z\d]){0,38}/(?!\.+$)[\w.-]{1,100}", re.ASCII)


def read_address(root=ROOT):
    config = (root / "_config.yml").read_text(encoding="utf-8")
    return re.search(r"^repository:\n(?:[ #].*\n)*?  url: (\S+)", config, re.MULTILINE)[1]


def check(address):
    """The address as it is to be written; what people copy often ends with a slash or with .git."""
    address = address.strip().removesuffix("/").removesuffix(".git")
    if not ADDRESS.fullmatch(address):
        sys.exit(f"{address!r} is not the address of a repository.\nmake repository URL=https://github.com/OWNER/NAME")
    return address


def rewrite(address, root=ROOT):
    """Writes the address in the place of the old one; returns the files that changed."""
    old = re.compile(re.escape(read_address(root)) + r"(?![\w-]|\.\w)", re.ASCII)
    changed = []
    for path in sorted(path for place in PLACES for path in root.glob(place)):
        before = path.read_bytes()
        after = old.sub(address, before.decode()).encode()
        if after != before:
            path.write_bytes(after)
            changed.append(path)
    return changed


if __name__ == "__main__":
    address = check(" ".join(sys.argv[1:]))
    print(f"{address}: {len(rewrite(address))} files changed")
