"""Commands and training jobs with odd flags and files: they do as asked, or end with one line and exit code 2."""

import dataclasses
import io
import os
import re
import signal
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from fuzz.harness import Attack, require
from fuzz.runs import is_refusal, outcome_of
from fuzz.saved_models import pipelines
from helpers_processes import Child
from helpers_runs import JOBS, job, write_corpora

from minitransformer import InputError
from minitransformer.__main__ import main as command
from train.finetune.settings import FinetuneSettings
from train.pretrain.bert.settings import BERTSettings
from train.pretrain.gpt.settings import GPTSettings
from train.translate.settings import TranslateSettings

WHOLE = ["-1", "0", "1", "2", "7", "2147483648", "99999999999999", "9" * 25, "x"]
FRACTIONS = ["-1", "0", "0.5", "1", "3", "nan", "inf", "1e-300", "1e-45", "1e300", "x"]
WORDS = ["", " ", "x", "..", "0", "a,b", "\udcff"]
LINES = [b"a", b" ", b"", b"\xff", b"a\rb", b"\xc2\x85", "é猫".encode(), b"\0", b"the cat"]


def commands(folder: Path):
    """`minitransformer translate|generate|classify|fill-mask` with odd flags and files: as many lines out as in."""
    places = {name: str(place) for name, (place, _) in pipelines(folder / "models").items()}
    flags = {
        "translate": ["--beam", "--alpha", "--n-best"],
        "classify": ["--explain"],
        "fill-mask": ["--top-k"],
        "generate": ["--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed"],
    }
    runs = {"translate": "translator", "classify": "classifier", "fill-mask": "mask filler", "generate": "completer"}
    lines_file = folder / "lines.txt"

    def strike(draw):
        name = draw.choice(list(flags))
        run = places[runs[name]] if draw.random() < 0.9 else draw.choice([*places.values(), str(folder), ""])
        arguments = [name, run]
        for flag in draw.sample(flags[name], draw.randrange(len(flags[name]) + 1)):
            whole = flag in ("--beam", "--n-best", "--top-k", "--seed")
            arguments += [flag] if flag == "--explain" else [flag, draw.choice(WHOLE if whole else FRACTIONS)]
        lines = draw.choices(LINES, k=draw.randrange(6))
        if name == "fill-mask":
            arguments.append(draw.choice(["The [MASK] sat", "", "[MASK]" * 40, "x\udcff[MASK]"]))
        elif name == "generate":
            arguments += ["--prompt", draw.choice(["", "a", "\udcff", "a" * 500])]
            arguments += ["--max-new-tokens", draw.choice(["-1", "0", "5"])]
        else:
            lines_file.write_bytes(b"".join(line + draw.choice([b"\n", b"\r\n"]) for line in lines))
            arguments += ["--input", str(lines_file)]
        out, err = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                command(arguments)
        except SystemExit as exit_:
            said = [line for line in err.getvalue().splitlines() if not line.startswith("warning: ")]
            if exit_.code == 2 and is_refusal(said):
                raise InputError(said[0]) from None
            raise AssertionError(f"{arguments}: exit code {exit_.code}: {err.getvalue()}") from None
        for line in err.getvalue().splitlines():
            warnings.warn(line, stacklevel=2)
        if name == "translate" and "--n-best" not in arguments:
            require(out.getvalue().count("\n") == len(lines), f"{out.getvalue()!r} for {lines}")
        require("nan" not in out.getvalue(), out.getvalue())

    return strike


def streams(folder: Path):
    """Ctrl-C at a random moment; standard streams that are closed, full, or read by nobody."""
    places = {name: str(place) for name, (place, _) in pipelines(folder / "models").items()}
    lines = folder / "lines.txt"
    lines.write_text("the cat sat\n" * 200)
    arguments = [
        ["translate", places["translator"], "--input", str(lines)],
        ["classify", places["classifier"], "--input", str(lines)],
        ["generate", places["rotary completer"], "--max-new-tokens", "2000"],
        ["fill-mask", places["mask filler"], "the [MASK] sat"],
    ]
    codes = {"Ctrl-C": (0, 130), "full": (2,), "unread": (0, 141), "no output": (0, 2), "no errors": (0, 2)}

    def strike(draw):
        how, chosen, moment = draw.choice(list(codes)), draw.choice(arguments), draw.uniform(0.001, 0.3)

        def spoiled():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if how == "Ctrl-C":
                signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
                signal.setitimer(signal.ITIMER_REAL, moment)
            elif how in ("full", "unread"):
                reading, writing = os.pipe()
                os.dup2(writing if how == "unread" else os.open("/dev/full", os.O_WRONLY), 1)
                os.close(reading), os.close(writing)
                sys.stdout = os.fdopen(1, "w", closefd=False)
            elif how == "no output":
                os.close(1)
                sys.stdout = None  # as Python begins then
            else:
                os.close(2)
                sys.stderr = None
            command(chosen)

        child = Child(folder / "said", spoiled)
        code, said = child.wait(), child.err.read_text()
        if code not in codes[how] or "Traceback" in said or len(said.splitlines()) > 2:
            raise AssertionError(f"{chosen[0]}, {how}: exit code {code}: {said[-2000:]}")
        if code == 2:
            raise InputError(said)

    return strike


UNFIT = {"steps", "minutes", "resume", "out", "data", "device", "processes", "fsdp", "compile", "threads"}
"""They decide how long a run takes and where it lies; and threads of OpenMP hang in a forked process."""


def training_flags(folder: Path):
    """A tiny training job with one more flag, of an odd value."""
    data, run = write_corpora(folder), folder / "run"
    settings = {}
    for name, (script, _, flags) in JOBS.items():
        settings[name] = settings_class(script, flags)

    def strike(draw):
        name = draw.choice(list(JOBS))
        fields = [field for field in dataclasses.fields(settings[name]) if field.name not in UNFIT]
        field = draw.choice([field for field in fields if values_of(field)])
        more, out = [f"--{field.name.replace('_', '-')}", draw.choice(values_of(field))], run / f"{draw.random()}"
        print(name, ascii(more), flush=True)
        outcome_of(job(name, data, out, *more), folder / "said")
        require((out / "results.json").is_file(), "no results")

    return strike


def values_of(field) -> list[str]:
    """Odd values of the kind that a flag takes; none for choices and switches."""
    kinds = {"int": WHOLE, "float": FRACTIONS, "str": WORDS, "Path": WORDS}
    return next((values for kind, values in kinds.items() if kind in re.findall(r"\w+", str(field.type))), [])


def settings_class(script, flags):
    of_pretraining = {"gpt": GPTSettings, "bert": BERTSettings}
    if flags[0] in of_pretraining:
        return of_pretraining[flags[0]]
    return TranslateSettings if "translate" in script.__name__ else FinetuneSettings


ATTACKS = [
    Attack("commands", commands, share=8),
    Attack("commands: Ctrl-C and spoiled streams", streams, share=2),
    Attack("training flags", training_flags, share=1, seconds=60),
]
