"""A Sphinx extension: links from signatures to the documentation of other projects.

intersphinx reads them from inventories, which it would fetch from each project's
site. Here they are written from `links.txt`, so that the site is built without the
network. The file has the address of each site, then the names that our signatures
have and their places on it.
"""

import zlib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

HEAD = b"""# Sphinx inventory version 2
# Project: other
# Version: 0
# The remainder of this file is compressed using zlib.
"""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", write)
    return {"parallel_read_safe": True}


def write(app: Sphinx, config: Config) -> None:
    """An inventory for each site, and the mapping that tells intersphinx."""
    sites: dict[str, list[str]] = {}
    for line in (Path(app.srcdir) / "links.txt").read_text().splitlines():
        if line.startswith(" "):
            name, place = line.split()
            sites[address].append(f"{name} py:class 1 {place} -\n")
        else:
            address = line
            sites[address] = []
    folder = Path(app.doctreedir)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (address, lines) in enumerate(sites.items()):
        path = folder / f"{number}.inv"
        path.write_bytes(HEAD + zlib.compress("".join(lines).encode()))
        config.intersphinx_mapping[f"site{number}"] = (address, str(path))
