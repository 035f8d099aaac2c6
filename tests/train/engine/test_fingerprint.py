import hashlib

import pytest

from minitransformer import InputError
from train.engine.fingerprint import fingerprint
from train.engine.run_folder import begin_run, read_command
from train.finetune.settings import FinetuneSettings
from train.pretrain.bert.corpora import corpus_names, read_corpora
from train.pretrain.bert.settings import BERTSettings
from train.pretrain.gpt.settings import GPTSettings


def write(path, text):
    path.write_text(text)
    return path, hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("settings", [GPTSettings, BERTSettings, FinetuneSettings])
def test_a_path_with_a_comma_is_one_file(settings, tmp_path):
    path, digest = write(tmp_path / "a,b, c.txt", "text")
    run, settings = tmp_path / "run", settings(data=str(path))
    assert fingerprint(settings) == {"a,b, c.txt": digest}
    begin_run(run, settings)
    _, changed = write(path, "another text")
    with pytest.raises(InputError, match=f"of .*run changed: a,b, c.txt was {digest} and is {changed}"):
        begin_run(run, settings)


def test_several_corpora_may_have_paths_with_commas(tmp_path):
    one, first = write(tmp_path / "a,b.txt", "One text. Two.\n" * 9)
    two, second = write(tmp_path / "c.txt", "Another text. Two.\n" * 9)
    data = f"bible,{one}, {two} ,reviews"
    assert corpus_names(data) == ["bible", str(one), str(two), "reviews"]
    many = [f"corpus-number-{number}.txt" for number in range(20)]  # together too long for the name of a file
    assert corpus_names(",".join(many)) == many
    found = fingerprint(BERTSettings(data=data))
    assert found == {"1/bible": "a name", "2/a,b.txt": first, "3/c.txt": second, "4/reviews": "a name"}
    assert list(read_corpora(f"{one},{two}")) == [str(one), str(two)]
    with pytest.raises(InputError, match="an empty name"):
        read_corpora(f"{one},,{two}")


def test_data_that_lies_elsewhere_goes_on_and_another_model_is_named(tmp_path):
    text, _ = write(tmp_path / "a.txt", "text")
    init, run = tmp_path / "init", tmp_path / "run"
    init.mkdir()
    write(init / "config.json", "{}")
    begin_run(run, GPTSettings(data=str(text), init=init, out=run))
    (tmp_path / "elsewhere").mkdir()
    moved = text.rename(tmp_path / "elsewhere" / "a.txt")
    command = ["--resume", str(run), "--data", str(moved)]
    settings, _ = read_command(GPTSettings, "pretrain gpt", command)
    begin_run(run, settings)
    write(init / "config.json", '{"another": 1}')
    settings, _ = read_command(GPTSettings, "pretrain gpt", command)
    with pytest.raises(InputError, match=r"--init config\.json was"):
        begin_run(run, settings)


def test_a_folder_that_is_no_model_and_other_files_of_one_do_not_count(tmp_path):
    text, digest = write(tmp_path / "a.txt", "text")
    init = tmp_path / "init"
    init.mkdir()
    write(init / "notes.bin", "of no matter")
    assert fingerprint(GPTSettings(data=str(text), init=init)) == {"a.txt": digest}
    _, of_config = write(init / "config.json", "{}")
    _, of_weights = write(init / "pytorch_model.bin", "weights")
    (init / "folder.bin").mkdir()
    (init / "gone.bin").symlink_to(tmp_path / "nothing")
    found = {"a.txt": digest, "--init config.json": of_config}
    assert fingerprint(GPTSettings(data=str(text), init=init)) == found | {"--init pytorch_model.bin": of_weights}
    _, of_weights = write(init / "model.safetensors", "others")  # which are read rather than those
    assert fingerprint(GPTSettings(data=str(text), init=init)) == found | {"--init model.safetensors": of_weights}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_to_start_from_that_changed_is_refused(name, tmp_path):
    text, _ = write(tmp_path / "a.txt", "text")
    init = tmp_path / "init"
    (init / "checkpoints").mkdir(parents=True)
    for part in ("config.json", "tokenizer.json", "model.safetensors", "results.json"):
        write(init / part, part)
    run, settings = tmp_path / "run", GPTSettings(data=str(text), init=init)
    begin_run(run, settings)
    write(init / "results.json", "of no matter")
    begin_run(run, settings)
    write(init / name, "another")
    with pytest.raises(InputError, match=f"--init {name} was"):
        begin_run(run, settings)
