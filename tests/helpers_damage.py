"""Ways to spoil a file, for the fuzz tests: its bytes, or the values in its JSON."""

import copy
import json

from hypothesis import strategies as st

ODD_NUMBERS = [0, -1, 1, 2, 3, 2**31, 2**63, 10**12, 10**30, -(2**70), 0.0, 1e-300, 1e300, float("nan"), float("inf")]
ODD_STRINGS = ["", "0", "12", "[PAD]", "../x", "/etc/passwd", "\x1b[2J", "\u202e", "\ud800", "\0", "é" * 300]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 20),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_STRINGS),
    st.integers(),
    st.text(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, above=()):
    """The path to every value inside a JSON value, itself included."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


@st.composite
def spoiled_json(draw, valid):
    """The text of a JSON value with some of the values inside `valid` replaced, dropped, renamed or doubled."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        where = draw(st.sampled_from(list(places(value))))
        if not where:
            if draw(st.integers(0, 20)) == 0:
                value = draw(values)
            continue
        holder = value
        for key in where[:-1]:
            holder = holder[key]
        key, how = where[-1], draw(st.sampled_from(["replace", "replace", "drop", "rename", "another"]))
        if how == "replace":
            holder[key] = draw(values if draw(st.booleans()) else scalars)
        elif how == "drop":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = holder.pop(key)
        else:  # a value from elsewhere in the file
            source = value
            for step in draw(st.sampled_from(list(places(value)))):
                source = source[step]
            holder[key] = copy.deepcopy(source)
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def spoiled_bytes(draw, valid):
    """`valid` with bytes changed, cut off, dropped, repeated or put in."""
    content = bytearray(valid)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["flip"] * 6 + ["cut", "drop", "repeat", "insert"]))
        if how == "flip" and content:
            content[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[place:]
        elif how == "drop":
            del content[place : place + draw(st.integers(1, 40))]
        elif how == "repeat":
            content[place:place] = content[place : place + draw(st.integers(1, 40))]
        else:
            content[place:place] = draw(st.binary(min_size=1, max_size=12))
    return bytes(content)


@st.composite
def spoiled_text_file(draw, valid):
    """Bytes or JSON values of a file of JSON text."""
    if draw(st.booleans()):
        return draw(spoiled_bytes(json.dumps(valid).encode()))
    return draw(spoiled_json(valid)).encode("utf-8", "surrogatepass")


@st.composite
def spoiled_safetensors(draw, valid):
    """Bytes of the file, or values of its header with a length that agrees, or does not."""
    if draw(st.booleans()):
        return draw(spoiled_bytes(valid))
    length = int.from_bytes(valid[:8], "little")
    header = draw(spoiled_json(json.loads(valid[8 : 8 + length]))).encode("utf-8", "surrogatepass")
    claimed = draw(st.sampled_from([len(header)] * 6 + [0, len(header) + 1, 2**32, 2**63, 2**64 - 1]))
    return claimed.to_bytes(8, "little") + header + valid[8 + length :]
