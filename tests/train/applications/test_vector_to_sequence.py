"""Dates written from vectors."""

import torch
from helpers_applications import refusal, run

from minitransformer import greedy
from train.applications import vector_to_sequence
from train.applications.vector_to_sequence import (
    FORMATS,
    LONGEST,
    DateWriter,
    DateWriterConfig,
    days_and_dates,
    text_of,
)
from train.applications.writer import ids_before


def test_a_tiny_run_trains_both_rivals_and_draws(tmp_path):
    flags = ["--steps", "6", "--days", "20", "--d-model", "4", "--hidden-size", "8", "--evaluations", "2"]
    rows = run(vector_to_sequence, tmp_path / "run", *flags)
    assert list(rows) == ["given the format", "format-blind"]
    assert rows["given the format"]["parameters"] == rows["format-blind"]["parameters"]


def test_no_day_is_in_two_splits_and_strings_are_those_of_their_vectors():
    splits = days_and_dates(50)
    days = {name: {tuple(row[:3]) for row in rows["inputs"].tolist()} for name, rows in splits.items()}
    assert [len(days[name]) for name in ("train", "validation", "test")] == [40, 5, 5]
    assert len(set.union(*days.values())) == 50
    year, month, day, _ = splits["test"]["inputs"][0].tolist()
    strings = [text_of(ids) for ids in splits["test"]["ids"][: len(FORMATS)]]
    assert strings[FORMATS.index("dd.MM.yy")] == f"{day:02}.{month:02}.{(1970 + year) % 100:02}"


def test_the_network_is_torchs_gru_and_a_cached_step_equals_the_whole_forward_pass():
    torch.manual_seed(0)
    model = DateWriter(DateWriterConfig(5, 7)).eval()
    gru = torch.nn.GRU(5, 7, batch_first=True)
    gru.load_state_dict({f"{name}_l0": value for name, value in model.decoder.rnn.cells[0].state_dict().items()})
    rows = days_and_dates(10)["test"]
    logits = model(rows["inputs"], rows["ids"])
    states, _ = gru(model.letters(ids_before(rows["ids"])), model.read(rows["inputs"]).recurrent[0][None])
    torch.testing.assert_close(logits, model.output(states))
    stepped, state = model.start(rows["inputs"], max_new_tokens=LONGEST)
    for place in range(3):
        torch.testing.assert_close(stepped, logits[:, place])
        stepped, state = model.step(rows["ids"][:, place], state)


def test_the_blind_twin_writes_all_formats_alike():
    torch.manual_seed(0)
    vectors = days_and_dates(10)["test"]["inputs"]
    blind = greedy(DateWriter(DateWriterConfig(5, 7, blind=True)).eval(), vectors, max_new_tokens=4)
    assert (blind == blind[:1]).all()
    seeing = greedy(DateWriter(DateWriterConfig(5, 7)).eval(), vectors, max_new_tokens=4)
    assert not (seeing == seeing[:1]).all()


def test_too_few_days_and_too_large_sizes_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    assert "--days 5: from 10 to 17,897" in refusal(vector_to_sequence.main, "--days 5", folder, capsys)
    assert "--d-model 5000 must be" in refusal(vector_to_sequence.main, "--d-model 5000", folder, capsys)
