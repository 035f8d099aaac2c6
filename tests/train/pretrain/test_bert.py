import json
from collections import Counter, defaultdict

import pytest
import torch
from helpers_rows import stored
from helpers_scripts import interrupted_at, refused
from transformers import AutoModelForMaskedLM, AutoTokenizer

import minitransformer
from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.packing import single_rows
from minitransformer.data.sentences import Document, encode_documents
from minitransformer.models import BERT, GPT, BERTConfig, GPTConfig
from minitransformer.tokenization import load_tokenizer, masked_specials, train_wordpiece_tokenizer
from train.engine.checkpoint import load_checkpoint
from train.pretrain.__main__ import main
from train.pretrain.bert.corpora import read_corpora
from train.pretrain.bert.counting_baselines import CountingBaselines
from train.pretrain.bert.rows import corpora_rows
from train.pretrain.bert.scores import masked_score

SMALL = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2", "--context", "24", "--batch-tokens", "200"]
COLOURS = ("green", "red", "blue", "white")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Long enough for several documents of sentences."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    lines = (f"{n} {COLOURS[n % 4]} bottles are hanging on the {COLOURS[n % 3]} wall. " for n in range(300))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Short texts, each of its own, with train, validation and test files."""
    folder = tmp_path_factory.mktemp("table")
    for number, split in enumerate(("train", "validation", "test")):
        lines = [f'{{"text": "a {COLOURS[n % 4]} film of {split} and {n}"}}\n' for n in range(number, 60)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(text, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["bert", "--data", f"{text},{table}", *SMALL, "--vocab-size", "90", "--steps", "6", "--out", str(folder)])
    return folder


def held_out(rows, tokenizer, **options):
    options = {"pad_id": masked_specials(tokenizer).pad_id, "max_tokens": 500, "seed": 5, **options}
    return MaskedBatches(rows, MaskVocabulary.of(tokenizer), masked=1.0, replaced=0.0, **options)


def test_the_run_folder_holds_the_figures_the_model_and_its_tokenizer(run):
    results = json.loads((run / "results.json").read_text())
    model, tokenizer = minitransformer.load(run), load_tokenizer(run / "tokenizer.json")
    assert results["parameters"] == model.num_parameters()
    assert results["vocab_size"] == tokenizer.get_vocab_size() == model.config.vocab_size == 90
    assert model.config.mask_id == tokenizer.token_to_id("[MASK]")
    assert results["steps"] == 6
    for prefix in ("", "test_"):
        assert set(results[f"{prefix}baselines"]) == {"unigram", "neighbours"}
        assert 0 <= results[f"{prefix}accuracy"] <= 1
    assert len(results["by_data"]) == 2
    assert len(results["test_by_data"]) == 1  # a text file has no test part
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert 0 <= results["sentence_accuracy"] <= 1


def test_the_figures_of_a_model_are_those_of_its_masked_tokens(run, table):
    model, tokenizer = minitransformer.load(run), load_tokenizer(run / "tokenizer.json")
    rows = corpora_rows(read_corpora(str(table)), tokenizer, 24, None, seed=0, held_out_seed=1)
    rows = rows.held_out["test"][str(table)]
    data = held_out(rows, tokenizer)
    nats, right, count = 0.0, 0, 0
    for row in range(len(rows)):
        batch = data.batch([row])
        log_probabilities = model.predict_tokens(model(batch["ids"])[0]).log_softmax(dim=-1)
        for place, target in enumerate(batch["targets"][0].tolist()):
            if target != IGNORED:
                assert batch["ids"][0, place] == model.config.mask_id
                nats -= log_probabilities[place, target].item()
                right += int(log_probabilities[place].argmax()) == target
                count += 1
    figures = masked_score(model, data).figures()
    assert figures["loss"] == pytest.approx(nats / count, abs=1e-5)
    assert figures["accuracy"] == right / count


def test_baselines_are_counts_of_the_training_text_backed_off_to_fewer_neighbours():
    """Against a slow account of the same rule, in dictionaries."""
    generator = torch.Generator().manual_seed(0)
    tokenizer = train_wordpiece_tokenizer(["abcdefg"], 5 + 14)
    specials = masked_specials(tokenizer)
    documents = [Document([(5 + torch.randint(6, (9,), generator=generator)).tolist()], n) for n in range(60)]
    training, test = (stored(single_rows(some, 20, specials)) for some in (documents[:40], documents[40:]))
    data = held_out(test, tokenizer, units="tokens")
    unigram, left, right, both = Counter(), defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)
    for document in documents[:40]:
        row = [specials.cls_id, *document.sentences[0], specials.sep_id]
        for before, token, after in zip(row, row[1:], row[2:], strict=False):
            unigram[token] += 1
            left[before][token] += 1
            right[after][token] += 1
            both[before, after][token] += 1

    def best(counts):
        return min(counts, key=lambda token: (-counts[token], token))

    def share(counts):
        return max(counts.values()) / sum(counts.values()) if counts else 0.0

    def smoothed(counts, token, backoff):
        return (counts[token] + len(counts) * backoff) / (sum(counts.values()) + len(counts)) if counts else backoff

    nats, hits = Counter(), Counter()
    count = 0
    for numbers in data.in_order():
        batch = data.batch(numbers)
        for row, place in (batch["targets"] != IGNORED).nonzero().tolist():
            target = int(batch["targets"][row, place])
            before, after = int(batch["ids"][row, place - 1]), int(batch["ids"][row, place + 1])
            sides = max((left[before], right[after]), key=share)
            guess = best(both[before, after] or sides or unigram)
            alone = (unigram[target] + 1) / (sum(unigram.values()) + tokenizer.get_vocab_size() - 5)
            mean = (smoothed(left[before], target, alone) + smoothed(right[after], target, alone)) / 2
            count += 1
            hits["unigram"] += best(unigram) == target
            hits["neighbours"] += guess == target
            nats["unigram"] -= torch.tensor(alone).log().item()
            nats["neighbours"] -= torch.tensor(smoothed(both[before, after], target, mean)).log().item()
    scores = CountingBaselines(training, data.vocabulary).scores(data)
    for name, score in scores.items():
        assert score.tokens == count
        assert score.right == hits[name]
        assert score.nats == pytest.approx(nats[name], rel=1e-4)


def test_smoothed_probabilities_of_the_neighbour_baseline_add_up_to_one():
    tokenizer = train_wordpiece_tokenizer(["abcdefg"], 5 + 14)
    specials = masked_specials(tokenizer)
    documents = [Document([[5, 6, 7, 5, 6, 8]], 0), Document([[6, 6, 9]], 1)]
    rows = stored(single_rows(documents, 20, specials))
    baselines = CountingBaselines(rows, MaskVocabulary.of(tokenizer))
    tokens = torch.arange(5, tokenizer.get_vocab_size())
    for left, right in ((5, 7), (6, 6), (specials.cls_id, 6), (specials.mask_id, 6), (18, 17)):
        probability = baselines._probability(torch.full_like(tokens, left), torch.full_like(tokens, right), tokens)
        assert probability.sum().item() == pytest.approx(1)


def test_short_texts_are_a_row_each_and_long_ones_are_cut_into_pairs_or_windows(text, table):
    texts, tables = read_corpora(str(text)), read_corpora(str(table))
    tokenizer = train_wordpiece_tokenizer([text.read_text(encoding="utf-8")], 90)
    short = corpora_rows(tables, tokenizer, 40, "nsp", seed=0, held_out_seed=1)
    assert len(short.train) == 60
    assert set(short.train.columns["label"].tolist()) == {-1}
    pairs = corpora_rows(texts, tokenizer, 40, "nsp", seed=0, held_out_seed=1)
    assert set(pairs.train.columns["label"].tolist()) >= {0, 1}
    windows = corpora_rows(texts, tokenizer, 40, None, seed=0, held_out_seed=1)
    assert set(windows.train.columns["label"].tolist()) == {-1}
    assert windows.train.lengths.max() <= 40


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_of_what_is_held_out_is_trained_on(split, run, table):
    tokenizer = load_tokenizer(run / "tokenizer.json")
    specials = masked_specials(tokenizer)
    corpus = read_corpora(str(table))[str(table)]
    train, other = (
        {
            tuple(ids)
            for part in corpus.parts(name)
            for ids, *_ in single_rows(encode_documents(part, tokenizer, longest=40), 40, specials)
        }
        for name in ("train", split)
    )
    assert not train & other
    assert split not in tokenizer.get_vocab()


@pytest.mark.parametrize("objective", ["bert", "roberta", "albert"])
def test_each_objective_trains_and_resumes_exactly_where_it_was_stopped(objective, text, tmp_path, monkeypatch, capsys):
    vocabulary = "280" if objective == "roberta" else "90"
    options = ["--data", str(text), *SMALL, "--objective", objective, "--vocab-size", vocabulary, "--threads", "1"]
    options += ["--steps", "40", "--dropout", "0.1"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    main(["bert", *options, "--out", str(whole)])
    interrupted_at(25, MaskedBatches, monkeypatch, main, ["bert", *options, "--out", str(stopped)])
    assert f"bert --resume {stopped}" in capsys.readouterr().out
    main(["bert", "--resume", str(stopped)])
    models = [minitransformer.load(folder) for folder in (whole, stopped)]
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other), name
    for folder, model in zip((whole, stopped), models, strict=True):
        assert load_checkpoint(folder / "checkpoints" / "step-00000040.safetensors", model)["step"] == 40
    config = models[0].config
    assert config.sentence_head == {"bert": "nsp", "roberta": None, "albert": "sop"}[objective]
    assert (config.d_embedding, config.num_hidden_groups) == ((128, 1) if objective == "albert" else (None, None))


@pytest.mark.parametrize("objective", ["bert", "roberta", "albert"])
def test_a_run_goes_on_from_another_and_classic_ones_load_in_transformers(objective, text, tmp_path):
    first, second, exported = (tmp_path / name for name in ("first", "second", "exported"))
    common = ["bert", "--objective", objective, "--data", str(text), "--steps", "20", *SMALL[6:], "--threads", "1"]
    sizes = [*SMALL[:6], "--vocab-size", "280", "--architecture", "classic", "--optimizer", "adamw"]
    main([*common, *sizes, "--out", str(first)])
    main([*common, "--init", str(first), "--out", str(second)])
    before, after = (json.loads((run / "results.json").read_text()) for run in (first, second))
    assert after["validation_loss"] < before["validation_loss"]
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    model, tokenizer = BERT.load(second), load_tokenizer(second / "tokenizer.json")
    model.export(exported, tokenizer)
    theirs, their_tokenizer = (kind.from_pretrained(exported) for kind in (AutoModelForMaskedLM, AutoTokenizer))
    ids = torch.tensor([tokenizer.encode("the green bottles, hanging").ids])
    assert their_tokenizer("the green bottles, hanging").input_ids == ids[0].tolist()
    torch.testing.assert_close(theirs.eval()(ids).logits, model.predict_tokens(model(ids)), rtol=0, atol=1e-5)


def test_heads_that_a_checkpoint_lacks_are_new_and_said_so(text, run, tmp_path, capsys):
    tokenizer = load_tokenizer(run / "tokenizer.json")
    config = BERTConfig(
        vocab_size=90,
        max_length=24,
        d_model=16,
        num_heads=2,
        num_layers=1,
        sentence_head=None,
        pooler=False,
        masked_head=False,
        cls_id=2,
        sep_id=3,
        mask_id=4,
    )
    folder = BERT(config).save(tmp_path / "headless")
    tokenizer.save(str(folder / "tokenizer.json"))
    main(["bert", "--data", str(text), "--init", str(folder), "--steps", "2", "--out", str(tmp_path / "run")])
    said = "warning: --init has no masked head, pooler, sentence head for this objective: new ones start untrained"
    assert said in capsys.readouterr().err.splitlines()
    assert BERT.load(tmp_path / "run").config.sentence_head == "nsp"


SMALL_GPT = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2", "--context", "16"]


@pytest.mark.parametrize(
    "job",
    [["bert", *SMALL], *(["gpt", *SMALL_GPT, "--tokenizer", kind] for kind in ("bpe", "byte-bpe"))],
    ids=["bert", "gpt of BPE", "gpt of byte-level BPE"],
)
def test_a_vocabulary_smaller_than_asked_is_said(job, text, tmp_path, capsys):
    out = tmp_path / "run"
    main([*job, "--data", str(text), "--steps", "1", "--vocab-size", "5000", "--out", str(out)])
    size = json.loads((out / "results.json").read_text())["vocab_size"]
    said = f"warning: the text gives no more than {size:,} pieces, fewer than the 5,000 asked for"
    assert capsys.readouterr().err.splitlines().count(said) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--context", "0"], "--context 0 must be more than 0"),
        (["--lr", "inf"], "--lr inf must be a finite number"),
        (["--context", "4"], "max_length=4 leaves no room for text"),
        (["--mask-rate", "1"], "--mask-rate 1.0 must be more than 0 and less than 1"),
        (["--vocab-size", "9"], "vocab_size=9 is too small for the"),
        (["--objective", "roberta", "--vocab-size", "100"], "vocab_size=100 must be at least 261"),
        (["--d-model", "15"], "d_model=15 is not divisible by num_heads=4"),
        (["--objective", "albert", "--whole-words"], "--whole-words is for --objective bert or roberta"),
        (["--init", "nowhere"], "--vocab-size: sizes come from --init nowhere; leave them out"),
        (["--init", "nowhere", "--d-model", "8"], "--d-model, --vocab-size: sizes come from --init nowhere"),
        (["--data", "nowhere.txt"], "no corpus 'nowhere.txt'"),
        (["--data", "dates"], "dates holds "),
        (["--data", "reviews,reviews"], "reviews twice between its commas"),
        (["--data", "reviews,"], "an empty name between its commas"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, text, tmp_path, capsys):
    out = tmp_path / "run"
    assert message in refused(
        capsys, ["bert", "--data", str(text), "--vocab-size", "90", "--out", str(out), *arguments], main
    )
    assert not out.exists()


def test_a_model_of_another_kind_or_vocabulary_is_refused(text, run, tmp_path, capsys):
    gpt = GPT(GPTConfig(vocab_size=9, max_length=8, d_model=8, num_heads=2, num_layers=1, eos_id=0)).save(
        tmp_path / "gpt"
    )
    out = tmp_path / "run"
    arguments = ["bert", "--data", str(text), "--out", str(out), "--init"]
    assert "nowhere is not a saved model: it does not exist" in refused(capsys, [*arguments, "nowhere"], main)
    assert "holds a GPT, not a BERT" in refused(capsys, [*arguments, str(gpt)], main)
    train_wordpiece_tokenizer(text.read_text().split(), 95).save(str(tmp_path / "tokenizer.json"))
    minitransformer.load(run).save(tmp_path / "other")
    (tmp_path / "tokenizer.json").rename(tmp_path / "other" / "tokenizer.json")
    assert "tokenizer.json has ids up to 9" in refused(capsys, [*arguments, str(tmp_path / "other")], main)
    assert not out.exists()
