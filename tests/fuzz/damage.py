"""Ways to spoil a file: its bytes, the values in its JSON, or what lies in its place. All draw from `random.Random`."""

import copy
import json
import os
import shutil

ODD_NUMBERS = [0, -1, 1, 2, 3, 2**31, 2**63, 10**12, 10**30, -(2**70), 0.0, 1e-300, 1e300, float("nan"), float("inf")]
ODD_STRINGS = ["", "0", "12", "[PAD]", "../x", "/etc/passwd", "\x1b[2J", "\u202e", "\ud800", "\0", "é" * 300]
STRAY_BYTES = [b"\r", b"\n", b"\r\n", b"\0", b"\t", b'"', b",", b"\xff", b"\x0c", b"\x1c"]
STRAY_BYTES += ["\x85".encode(), "\u2028".encode(), "\ufeff".encode()]


def random_text(draw, most=12):
    """Mostly readable; now and then anything that Unicode has, halves of characters too."""
    if draw.random() < 0.8:
        return "".join(draw.choices("abcé猫 \t\n\r\"',;\\{}[]0189", k=draw.randrange(most)))
    return "".join(chr(draw.randrange(0x11000)) for _ in range(draw.randrange(most)))


def scalar(draw):
    return draw.choice(
        [
            lambda: None,
            lambda: draw.random() < 0.5,
            lambda: draw.randrange(21),
            lambda: draw.choice(ODD_NUMBERS),
            lambda: draw.choice(ODD_STRINGS),
            lambda: draw.randrange(-(2**66), 2**66),
            lambda: random_text(draw),
        ]
    )()


def value(draw, depth=2):
    kind = draw.randrange(4) if depth else 0
    if kind < 2:
        return scalar(draw)
    inner = [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return inner if kind == 2 else {random_text(draw, 6): each for each in inner}


def places(value, above=()):
    """The path to every value inside a JSON value, itself included."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def spoiled_json(draw, valid):
    """The text of a JSON value with some of the values inside `valid` replaced, dropped, renamed or doubled."""
    spoiled = copy.deepcopy(valid)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        where = draw.choice(list(places(spoiled)))
        if not where:
            spoiled = value(draw) if draw.random() < 0.05 else spoiled
            continue
        holder, key, how = at(spoiled, where[:-1]), where[-1], draw.randrange(5)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[random_text(draw, 8)] = holder.pop(key)
        elif how == 2:
            holder[key] = copy.deepcopy(at(spoiled, draw.choice(list(places(spoiled)))))
        else:
            holder[key] = value(draw)
    return json.dumps(spoiled, ensure_ascii=draw.random() < 0.5)


def spoiled_bytes(draw, valid):
    """`valid` with bytes changed, cut off, dropped, repeated, moved or put in."""
    content = bytearray(valid)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        place, size = draw.randrange(len(content) + 1), draw.randint(1, 40)
        how = draw.choice(["flip"] * 5 + ["stray"] * 3 + ["cut", "drop", "repeat", "move", "insert"])
        if how == "flip" and place < len(content):
            content[place] = draw.choice([draw.randrange(256), draw.randrange(32, 127), draw.randrange(32, 127)])
        elif how == "stray":
            content[place:place] = draw.choice(STRAY_BYTES)
        elif how == "cut":
            del content[place:]
        elif how == "drop":
            del content[place : place + size]
        elif how == "repeat":
            content[place:place] = content[place : place + size]
        elif how == "move":
            content = content[place:] + content[:place]
        else:
            content[place:place] = draw.randbytes(min(size, 12))
    return bytes(content)


def spoiled_json_file(draw, valid):
    """Bytes of a file of JSON, or its values."""
    if draw.random() < 0.5:
        return spoiled_bytes(draw, valid)
    return spoiled_json(draw, json.loads(valid)).encode("utf-8", "surrogatepass")


def spoiled_safetensors(draw, valid):
    """Bytes of the file, or values of its header with a length that agrees, or does not."""
    if draw.random() < 0.5:
        return spoiled_bytes(draw, valid)
    length = int.from_bytes(valid[:8], "little")
    header = spoiled_json(draw, json.loads(valid[8 : 8 + length])).encode("utf-8", "surrogatepass")
    claimed = draw.choice([len(header)] * 6 + [0, len(header) + 1, 2**32, 2**63, 2**64 - 1])
    return claimed.to_bytes(8, "little") + header + valid[8 + length :]


SPOILERS = {".json": spoiled_json_file, ".safetensors": spoiled_safetensors}


def spoil(draw, path):
    """Change a file, or, one time in six, put something else in its place."""
    if draw.random() < 5 / 6:
        path.write_bytes(SPOILERS.get(path.suffix, spoiled_bytes)(draw, path.read_bytes()))
    else:
        misplace(draw, path)


def misplace(draw, path):
    """Nothing, an empty file, one of zeros, a folder, a FIFO or a link where a file was."""
    size, elsewhere = path.stat().st_size, path.parent / "elsewhere"
    path.unlink()
    draw.choice(
        [
            lambda: None,
            lambda: path.write_bytes(b""),
            lambda: path.write_bytes(bytes(size)),
            lambda: path.mkdir(),
            lambda: os.mkfifo(path),
            lambda: path.symlink_to(path),
            lambda: path.symlink_to(elsewhere),
            lambda: path.symlink_to("/dev/zero"),
        ]
    )()


def fresh_copy(master, folder):
    """`folder` as `master` is."""
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(master, folder)


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())
