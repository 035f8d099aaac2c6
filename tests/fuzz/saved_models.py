"""Folders of models with their tokenizers: loaded and used, they give something sound, or are refused."""

import json
import math
from functools import partial
from pathlib import Path

import helpers_hub
import torch
from fuzz.damage import files_in, fresh_copy, misplace, spoil
from fuzz.harness import Attack, require
from helpers_bert import CASES, theirs_of
from helpers_models import nudged
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

import minitransformer
from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    Classifier,
    Completer,
    GPTConfig,
    MaskFiller,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
    Translator,
)
from minitransformer.tokenization import (
    end_of_text_id,
    masked_specials,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_wordpiece_tokenizer,
)

TEXTS = ["The cat sat on the mat.", "2 émigrés, 猫!", "to be or not to be", "a witty film"]
TEXT = "The cat sat"
SIZES = {"d_model": 8, "num_heads": 2, "max_length": 32}


def gpt(vocab_size=7, **options):
    return GPT(GPTConfig(**{**SIZES, "vocab_size": vocab_size, "num_layers": 1, "eos_id": 0, **options}))


def bert(tokenizer):
    s = masked_specials(tokenizer)
    ids = {"pad_id": s.pad_id, "cls_id": s.cls_id, "sep_id": s.sep_id, "mask_id": s.mask_id}
    return BERT(BERTConfig(vocab_size=tokenizer.get_vocab_size(), num_layers=1, **ids, **SIZES))


def translator(kind):
    tokenizers = train_character_tokenizer(TEXTS[:1]), train_bpe_tokenizer(TEXTS, 50)
    sizes = [tokenizer.get_vocab_size() for tokenizer in tokenizers]
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_ff": 8}
    if kind == "rnn":
        return Translator(RNNSeq2Seq(RNNConfig(*sizes, d_model=8, hidden_size=8, max_length=32)), *tokenizers)
    return Translator(Transformer(TransformerConfig(*sizes, **SIZES, **layers)), *tokenizers)


def completer(**options):
    tokenizer = train_byte_bpe_tokenizer(TEXTS, 280)
    return Completer(gpt(tokenizer.get_vocab_size(), **{"eos_id": end_of_text_id(tokenizer), **options}), tokenizer)


def classifier():
    tokenizer = train_wordpiece_tokenizer(TEXTS, 60)
    return Classifier(SequenceClassifier(bert(tokenizer), 2, labels=["no", "yes"]), tokenizer)


def mask_filler():
    tokenizer = train_wordpiece_tokenizer(TEXTS, 55)
    return MaskFiller(bert(tokenizer), tokenizer)


PIPELINES = {
    "translator": partial(translator, "transformer"),
    "rnn translator": partial(translator, "rnn"),
    "completer": completer,
    "rotary completer": partial(completer, positions="rotary"),
    "classifier": classifier,
    "mask filler": mask_filler,
}


def pipelines(folder: Path) -> dict[str, tuple[Path, type]]:
    """A saved pipeline of each kind, and its class. Their tokenizers are of different sizes."""
    made = {}
    for name, build in PIPELINES.items():
        torch.manual_seed(0)
        pipeline = build()
        nudged(pipeline.model).eval()
        made[name] = pipeline.save(folder / name), type(pipeline)
    return made


def use(pipeline):
    """One text through it; what comes out has to be sound."""
    for name, parameter in pipeline.model.named_parameters():
        require(bool(parameter.isfinite().all()), f"{name} is not finite")
    if isinstance(pipeline, Translator):
        require(isinstance(pipeline([TEXT, ""], beam_size=2)[0], str), "no text")
    elif isinstance(pipeline, Completer):
        require(isinstance(pipeline([TEXT], max_new_tokens=3)[0], str), "no text")
    elif isinstance(pipeline, Classifier):
        [guess] = pipeline([TEXT])
        require(0 <= guess.probability <= 1, guess)
    else:
        [gap] = pipeline("The [MASK] sat")
        require(all(0 <= each.probability <= 1 for each in gap), gap)


def saved_pipelines(folder: Path):
    """A file damaged, in another's place, of another model, or with numbers that are none."""
    made = pipelines(folder / "whole")

    def strike(draw):
        name = draw.choice(list(made))
        whole, kind = made[name]
        broken = fresh_copy(whole, folder / "broken")
        file, how = draw.choice(files_in(broken)), draw.random()
        if how < 0.75:
            spoil(draw, file)
        elif how < 0.9:
            swap_in(draw, file, made)
        else:
            weights = broken / "model.safetensors"
            tensors = load_file(weights)
            tensors[draw.choice(sorted(tensors))].view(-1)[0] = draw.choice([math.nan, math.inf, -math.inf])
            save_file(tensors, weights)
        if file.name.endswith("tokenizer.json") and 0.75 <= how < 0.9:
            before = json.loads((whole / file.name).read_text())["model"]["vocab"]
            require_refused_or_same(kind, broken, file, len(before))
        else:
            use(kind.load(broken))

    return strike


def swap_in(draw, file, made):
    """A file of that name, or of that kind, from another model."""
    kind = "tokenizer" if "tokenizer" in file.name else file.name
    others = [other for folder, _ in made.values() for other in files_in(folder) if kind in other.name]
    file.write_bytes(draw.choice(others).read_bytes())


def require_refused_or_same(kind, broken, file, size):
    """A tokenizer of another size than the model's is not the model's."""
    loaded = kind.load(broken)
    found = len(json.loads(file.read_text())["model"]["vocab"])
    require(found == size, f"{file.name} with {found} tokens was taken for one with {size}")
    use(loaded)


def hub_checkpoints(folder: Path):
    """Hugging Face checkpoints of each kind, in one file, in shards and pickled."""
    made = {case: theirs_of(case) for case in CASES if "one" not in case and "two" not in case}
    sizes = {"vocab_size": 7, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    made["gpt2"] = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    made |= {case: helpers_hub.theirs_of(case) for case in helpers_hub.ROTARY}
    made["classifier"] = BertForSequenceClassification(made["BERT"].config)
    for name, model in made.items():
        model.save_pretrained(folder / "whole" / name)
    made["gpt2"].save_pretrained(folder / "whole" / "gpt2 in shards", max_shard_size=600)
    made["gpt2"].save_pretrained(folder / "whole" / "gpt2 pickled")
    pickled = folder / "whole" / "gpt2 pickled" / "model.safetensors"
    torch.save(load_file(pickled), pickled.with_name("pytorch_model.bin"))
    pickled.unlink()
    masters = sorted((folder / "whole").iterdir())

    def strike(draw):
        broken = fresh_copy(draw.choice(masters), folder / "broken")
        spoil(draw, draw.choice(files_in(broken)))
        model = minitransformer.load(broken)
        for name, parameter in model.named_parameters():
            require(bool(parameter.isfinite().all()), f"{name} is not finite")
        model.encode(torch.tensor([[1, 2]]))

    return strike


def misplaced(folder: Path):
    """Something else where a file of a model was."""
    made = pipelines(folder / "whole")

    def strike(draw):
        whole, kind = made[draw.choice(list(made))]
        broken = fresh_copy(whole, folder / "broken")
        misplace(draw, draw.choice(files_in(broken)))
        use(kind.load(broken))

    return strike


ATTACKS = [
    Attack("models: saved pipelines", saved_pipelines, share=16),
    Attack("models: Hugging Face checkpoints", hub_checkpoints, share=8),
    Attack("models: FIFOs and links for files", misplaced, share=2),
]
