"""Model cards: the README.md of a model's folder, with the header that the Hugging Face hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from minitransformer.files import atomic, open_regular

CARD = "README.md"
MARK = "<!-- Written by minitransformer. Delete this line to keep your own text: the file is then left as it is. -->"


def write_card(folder: Path, header: Mapping[str, str | Sequence[str] | None], title: str, *sections: str) -> None:
    """Write the card of the model in `folder`, unless a file of the user's is there. Entries of the `header` that are
    None or empty are not known, and left out."""
    path = folder / CARD
    if path.exists():
        with open(path, encoding="utf-8", errors="replace", opener=open_regular) as file:
            if MARK not in file.read():
                return
    known = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in header.items() if value]
    with atomic(path) as temporary:
        text = "\n\n".join(["\n".join(["---", *known, "---"]), f"# {title}", MARK, *sections])
        temporary.write_text(text + "\n", encoding="utf-8")


def fenced(language: str, text: str) -> str:
    """A block of code. JSON and commands have no fence in them."""
    return f"```{language}\n{text}\n```"


IN_FOLDER = "FOLDER is where this file lies."

TASKS = {
    "ForCausalLM": ("text-generation", "AutoModelForCausalLM"),
    "LMHeadModel": ("text-generation", "AutoModelForCausalLM"),
    "ForMaskedLM": ("fill-mask", "AutoModelForMaskedLM"),
    "ForPreTraining": ("fill-mask", "AutoModelForMaskedLM"),
    "ForSequenceClassification": ("text-classification", "AutoModelForSequenceClassification"),
}
"""The hub's name of the task, and the class that loads the model, by how the name of an architecture ends."""


def write_exported_card(folder: Path, architecture: str, model_type: str, parameters: int, *, tokenizer: bool) -> None:
    """The card of a checkpoint for `transformers`: what `export` knows of it."""
    task, loader = next((found for end, found in TASKS.items() if architecture.endswith(end)), (None, "AutoModel"))
    if tokenizer and task is not None:
        use = f'from transformers import pipeline\n\nmodel = pipeline("{task}", model="FOLDER")'
    else:
        use = f'from transformers import {loader}\n\nmodel = {loader}.from_pretrained("FOLDER")'
    header = {"library_name": "transformers", "pipeline_tag": task, "tags": ["minitransformer", model_type]}
    write_card(
        folder,
        header,
        folder.absolute().name,
        f"A `{architecture}` with {parameters:,} parameters, exported by minitransformer.",
        "## Use",
        IN_FOLDER,
        fenced("python", use),
        "## Data and figures",
        "Not stated by the export: the README.md of the run that trained the model has them.",
    )
