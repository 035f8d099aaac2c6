"""Small runs of every job, each always the same: started, watched, and compared by what they leave."""

import json
from pathlib import Path

# Loaded here, so that forked processes need not load them; optimizers need the second.
import datasets  # noqa: F401
import torch._dynamo  # noqa: F401
from helpers_processes import Child

from train.finetune import __main__ as finetune
from train.pretrain import __main__ as pretrain
from train.translate import __main__ as translate

ROOT = Path(__file__).parents[1]
SMALL = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2"]
COMMON = ["--device", "cpu", "--threads", "1", "--precision", "bf16", "--checkpoint-seconds", "0"]
GPT = ["gpt", *SMALL, "--context", "12", "--batch-size", "3", "--steps", "8", "--dropout", "0.1", "--accumulate", "2"]
BERT = ["bert", *SMALL, "--context", "24", "--batch-tokens", "200", "--steps", "8", "--dropout", "0.1"]
CLASSIFIER = ["--init", "scratch", "--encoder", "bert", *SMALL, "--dropout", "0.1", "--steps", "8", "--no-baselines"]
SENTENCES = ["--tokenizer", "bpe", "--vocab-size", "90", "--max-tokens", "700", "--steps", "4", "--evaluations", "4"]
SENTENCES += ["--average", "2", "--beam", "2"]
JOBS = {
    "gpt with muon": (pretrain, "bottles.txt", [*GPT, "--optimizer", "muon"]),
    "gpt with adamw": (pretrain, "bottles.txt", [*GPT, "--optimizer", "adamw"]),
    "bert": (pretrain, "bottles.txt", [*BERT, "--accumulate", "2", "--vocab-size", "90"]),
    "albert": (pretrain, "bottles.txt", [*BERT, "--objective", "albert", "--optimizer", "adamw", "--vocab-size", "90"]),
    "finetune": (finetune, "labels.tsv", [*CLASSIFIER, "--max-tokens", "100"]),
    # Dropout, AdamW and accumulation; the talk's plain SGD, with a coin at every batch.
    "translate": (
        translate,
        "pairs.tsv",
        ["--models", "transformer,talk", "--dropout", "0.1", "--accumulate", "2", "--steps", "6", "--evaluations", "3"],
    ),
    # Pieces of words, the mean of two checkpoints, and a beam.
    "translate sentences": (translate, "sentences.tsv", SENTENCES),
}


def write_corpora(folder):
    """The data of all of them."""
    colours = ("green", "red", "blue", "white")
    lines = [f"{n} {colours[n % 4]} bottles are hanging on the {colours[n % 3]} wall" for n in range(80)]
    (folder / "bottles.txt").write_text(". ".join(lines) + ".\n", encoding="utf-8")
    rows = "".join(f"{line}\t{'odd' if n % 2 else 'even'}\n" for n, line in enumerate(lines))
    (folder / "labels.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    pairs = "".join(f"{n} {colours[n % 4]}\t{n * 7 % 100}\n" for n in range(60))
    (folder / "pairs.tsv").write_text(f"source\ttarget\n{pairs}", encoding="utf-8")
    turned = "".join(f"{line}\t{' '.join(reversed(line.split()))}\n" for line in lines)
    (folder / "sentences.tsv").write_text(f"source\ttarget\n{turned}", encoding="utf-8")
    return folder


def command(name, data, out, *more):
    """The script of a job and its arguments, the same every time."""
    script, file, flags = JOBS[name]
    return script, [*flags, *COMMON, "--data", str(data / file), "--out", str(out), "--resume", "auto", *more]


def job(*which):
    """The function that runs `command(*which)`."""
    script, arguments = command(*which)
    return lambda: script.main(arguments)


def made_longer(name, data, out):
    """The function that runs a job and then makes it longer. Called again, it continues in the stretch that began."""
    script, arguments = command(name, data, out)
    at = arguments.index("--steps") + 1
    longer = [*arguments[:at], str(int(arguments[at]) + 4), *arguments[at + 1 :]]

    def both():
        saved = [json.loads(path.read_text()) for path in (out / "settings.json", out / "config.json") if path.exists()]
        finished = (out / "results.json").exists()
        if not finished and not any(values.get("stretch") == 2 for values in saved):
            script.main(arguments)
        script.main(longer)

    return both


def finish(action, folder):
    child = Child(folder, action)
    assert child.wait() == 0, child.err.read_text()
    return child


def ending(run):
    """All that a run leaves, but for the time it took and where its data lay."""
    left = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if "damaged-" in name:  # set aside by a resume
            continue
        if path.name == "metrics.jsonl":
            left[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "results.json":
            left[name] = timeless(json.loads(path.read_text()))
        elif path.suffix == ".safetensors" and path.is_file():
            left[name] = path.read_bytes()
        elif "tokenizer" in path.name:
            left[name] = path.read_text()
        elif path.suffix != ".json" and path.name != ".lock":  # settings hold the folder's name, checkpoints the time
            left[name] = None
    return left


UNLIKE = {"data", "run_id", "metrics_sha256", "sha256"}


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if "second" not in key and key not in UNLIKE}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def at_batch(number, feed, happening):
    """From now on, `happening` while the batch of this number is made. Returns a list that grows with each batch."""
    original, made = feed.batch, []

    def batch(self, rows):
        made.append(rows)
        if len(made) == number:
            happening()
        return original(self, rows)

    feed.batch = batch
    return made


def said_in_one_line(child):
    """The one line about what went wrong, beside warnings."""
    (line,) = [line for line in child.err.read_text().splitlines() if not line.startswith("warning: ")]
    return line
