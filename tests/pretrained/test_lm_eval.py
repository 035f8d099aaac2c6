"""An exported causal model in the evaluation harness lm-eval."""

import json

import pytest
import torch
from helpers_hub import ours_of

from minitransformer import Completer
from minitransformer.tokenization import train_byte_bpe_tokenizer

QUESTIONS = [
    {"question": "To be, or not to", "choices": [" be", " see the end"], "answer": 0},
    {"question": "The end of", "choices": [" never", " the world", " it"], "answer": 1},
    {"question": "It is", "choices": [" not", " so"], "answer": 0},
]
TASK = """\
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
"""


@torch.no_grad()
def log_likelihood(completer, text, continuation):
    """ln p(continuation | text) of our model."""
    ids = [completer.tokenizer.encode(part, add_special_tokens=False).ids for part in (text, text + continuation)]
    assert ids[1][: len(ids[0])] == ids[0]
    scores = completer.model(torch.tensor([ids[1]]))[0].log_softmax(dim=-1)
    places = torch.arange(len(ids[0]), len(ids[1]))
    return scores[places - 1, torch.tensor(ids[1])[places]].sum().item()


@pytest.mark.slow  # the extra lm-eval has 29 packages that nothing else needs, and takes 47 seconds to install
@pytest.mark.parametrize("case", ["Llama", "Qwen3", "Arcee"])
def test_the_harness_finds_the_log_likelihoods_of_the_exported_model(case, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    texts = [each["question"] + choice for each in QUESTIONS for choice in each["choices"]]
    tokenizer = train_byte_bpe_tokenizer(texts, 300)
    model = ours_of(case, vocab_size=tokenizer.get_vocab_size(), eos_id=tokenizer.token_to_id("[EOS]"), bos_id=None)
    completer = Completer(model, tokenizer)
    model.export(tmp_path / "model", tokenizer)
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, QUESTIONS)))
    (tmp_path / "choices.yaml").write_text(TASK.format(file=file))

    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    options = {"tasks": ["choices"], "task_manager": manager, "device": "cpu", "batch_size": 2}
    arguments = {"pretrained": str(tmp_path / "model"), "dtype": "float32"}
    found = lm_eval.simple_evaluate("hf", model_args=arguments, bootstrap_iters=0, **options)
    right = 0
    for sample in sorted(found["samples"]["choices"], key=lambda sample: sample["doc_id"]):
        doc = sample["doc"]
        ours = [log_likelihood(completer, doc["question"], choice) for choice in doc["choices"]]
        assert [score for score, _ in sample["filtered_resps"]] == pytest.approx(ours, abs=1e-4)
        right += ours.index(max(ours)) == doc["answer"]
    assert found["results"]["choices"]["acc,none"] == pytest.approx(right / len(QUESTIONS))
