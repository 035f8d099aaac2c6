"""What each job refuses, in one line and before it writes anything. Bounds of numbers: `engine/test_settings.py`."""

import pytest
from helpers_scripts import refused

from minitransformer.models import BERT, GPT, BERTConfig, GPTConfig, Transformer, TransformerConfig
from minitransformer.tokenization import train_wordpiece_tokenizer
from train import compare_sentiment
from train.finetune import __main__ as finetune
from train.pretrain import __main__ as pretrain
from train.translate import __main__ as translate

JOBS = {
    "gpt": (pretrain.main, ["gpt", "--data", "text.txt"]),
    "bert": (pretrain.main, ["bert", "--data", "text.txt"]),
    "finetune": (finetune.main, ["--data", "labelled.tsv"]),
    "strings": (translate.main, ["--data", "pairs.csv"]),
    "sentences": (translate.main, ["--data", "aligned", "--source", "de", "--target", "en", "--tokenizer", "bpe"]),
    "comparison": (compare_sentiment.main, ["--data", "labelled.tsv"]),
}
SCRATCH = "--init scratch --d-model 16 --num-layers 1"
REFUSED = {
    "gpt": {
        "--vocab-size 300": "--vocab-size: no effect with --tokenizer character",
        "--context 5000": "is shorter than one context of 5000",
        "--d-model 15": "--d-model 15 is not divisible by --num-heads 4",
        "--tokenizer byte-bpe --vocab-size 5": "--vocab-size 5 must be at least 260",
        "--init nowhere": "nowhere is not a saved model: it does not exist",
        "--init x --tokenizer character": "--tokenizer: no effect beside --init x",
        "--init x --num-layers 2 --d-model 8": "--num-layers, --d-model: no effect beside --init x",
        "--optimizer adamw --momentum 0.9": "--momentum: no effect with --optimizer adamw",
        "--data nowhere.txt": "no corpus 'nowhere.txt'",
        "--data dates": "dates holds pairs",
        "--data columns.csv": "to read as text? Name them with --text",
        "--data labelled.tsv --text nought": "has no column 'nought'",
    },
    "bert": {
        "--vocab-size 90 --context 4": "--context 4 leaves no room for text",
        "--vocab-size 9": "--vocab-size 9 is too small for the",
        "--objective roberta --vocab-size 100": "--vocab-size 100 must be at least 261",
        "--objective roberta --cased": "--cased: no effect with --objective roberta",
        "--objective albert --whole-words": "--whole-words is for --objective bert or roberta",
        "--init x --dropout 0": "--dropout: no effect beside --init x",
        "--init gpt": "holds a GPT, not a BERT",
        "--init other": "tokenizer.json has ids up to 5",
        "--data reviews,reviews": "reviews twice between its commas",
        "--data columns.csv": "to read as text? Name them with --text",
        "--data labelled.tsv,bible --text text": "bible holds pairs",
        "--data reviews,": "an empty name between its commas",
    },
    "finetune": {
        f"{SCRATCH} --freeze 9": "--freeze 9: the encoder has 1 blocks",
        f"{SCRATCH} --vocab-size 8": "--vocab-size 8 is too small",
        "--init scratch --encoder rnn --freeze 1": "one stack of blocks",
        "--init scratch --encoder rnn --num-heads 2": "--num-heads: no effect with --encoder rnn",
        "--init scratch --d-model 15": "--d-model 15 is not divisible by --num-heads 4",
        "--init minilm --cased": "--cased: no effect beside --init minilm",
        "--init nowhere": "no such folder: nowhere",
        "--init transformer": "holds a Transformer, not a BERT, a GPT or a classifier",
        "--init other": "tokenizer.json has ids up to",
        "--label mood": "has no column 'mood'; it has ['text', 'label']",
    },
    "strings": {
        "--models rnn-nought": "--models rnn-nought: the models are rnn-additive",
        "--models talk,talk": "each once",
        "--max-length 2": "raise --max-length",
        "--no-joint --vocab-size 9": "--vocab-size, --joint: no effect on short strings",
        "--beam 1 --alpha 0": "--alpha: no effect without a beam",
        "--average-of last": "--average-of: no effect with --average 1",
        "--data few.csv": "too few",
        "--data text.txt": "text.txt is running text: it has no columns 'source' and 'target'",
    },
    "sentences": {
        "--models rnn-location": "rnn-location",
        "--vocab-size 18 --no-joint": "--vocab-size 18 is too small for the",
        "--max-length 1": "raise --max-length",
        "--source fr": "--source 'fr' and --target 'en' are not two of",
        "--models transformer,rnn-dot --optimizer muon": "--optimizer muon is for the transformer, not for rnn-dot",
    },
    "comparison": {
        "--rows cnn": "--rows cnn: not among rnn-last, rnn-attention, transformer, pretrained-here, minilm",
        "--rows ,": "--rows ',': name at least one",
        "--seeds 0,0": "--seeds '0,0': name at least one, each once",
        "--seeds 0,-1": "--seeds -1 must be at least 0 and less than 4294967296",
        "--seeds a": "--seeds 'a': whole numbers",
        "--pretrained nowhere": "no such folder: nowhere",
        "--rows minilm --seed 0": "--seed: no effect without pretrained-here in --rows; leave this out",
        "--pretrained . --pretrain-data bible": "--pretrain-data: no effect beside --pretrained",
        "--steps 3 --pretrain-minutes 4": "--pretrain-minutes: no effect beside --steps",
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small data of each kind, and models that the jobs cannot start from."""
    folder = tmp_path_factory.mktemp("data")
    sentences = [f"{n} green bottles are hanging on the wall." for n in range(60)]
    others = [f"on the wall are hanging {n} green bottles." for n in range(60)]
    files = {
        "text.txt": sentences,
        "labelled.tsv": ["text\tlabel", *(f"{text}\t{n % 2}" for n, text in enumerate(sentences))],
        "pairs.csv": ["source,target", *(f"{n} days,{n}" for n in range(60))],
        "columns.csv": ["content,date,id", *(f"{text},May {n},{n}" for n, text in enumerate(sentences))],
        "few.csv": ["source,target", "a,b"],
        **{f"aligned/train.{side}": sentences for side in ("de", "en")},
        **{f"aligned/val.{side}": others for side in ("de", "en")},
    }
    (folder / "aligned").mkdir()
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = dict(vocab_size=9, max_length=8, d_model=8, num_heads=2, num_layers=1)
    GPT(GPTConfig(**sizes, eos_id=0)).save(folder / "gpt")
    stacks = dict(num_encoder_layers=1, num_decoder_layers=1)
    Transformer(TransformerConfig(9, 9, d_model=8, num_heads=2, d_ff=8, **stacks)).save(folder / "transformer")
    BERT(BERTConfig(**sizes, cls_id=2, sep_id=3, mask_id=4)).save(folder / "other")
    train_wordpiece_tokenizer(sentences, 60).save(str(folder / "other" / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("job", "flags", "message"),
    [(job, flags, message) for job, cases in REFUSED.items() for flags, message in cases.items()],
)
def test_bad_input_is_one_line_and_writes_nothing(job, flags, message, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    program, arguments = JOBS[job]
    assert message in refused(capsys, [*arguments, "--out", str(tmp_path / "run"), *flags.split()], program)
    assert not (tmp_path / "run").exists()
