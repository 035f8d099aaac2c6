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


@pytest.fixture
def model(tmp_path):
    """A folder with the files of a model, and one that is none of them."""
    folder = tmp_path / "init"
    (folder / "folder.bin").mkdir(parents=True)
    (folder / "gone.bin").symlink_to(tmp_path / "nothing")
    for name in ("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "results.json"):
        write(folder / name, name)
    return folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_run_resumes_with_data_in_another_place_and_not_with_another_model(name, model, tmp_path):
    text, _ = write(tmp_path / "a.txt", "text")
    run = tmp_path / "run"
    begin_run(run, GPTSettings(data=str(text), init=model, out=run))
    (tmp_path / "elsewhere").mkdir()
    command = ["--resume", str(run), "--data", str(text.rename(tmp_path / "elsewhere" / "a.txt"))]
    write(model / "results.json", "changed")
    begin_run(run, read_command(GPTSettings, "pretrain gpt", command)[0])
    write(model / name, "changed")
    with pytest.raises(InputError, match=f"--init {name} was"):
        begin_run(run, read_command(GPTSettings, "pretrain gpt", command)[0])


def test_the_files_that_a_model_is_loaded_from_count_and_no_others(model, tmp_path):
    text, digest = write(tmp_path / "a.txt", "text")

    def counted():
        names = fingerprint(GPTSettings(data=str(text), init=model))
        assert names.pop("a.txt") == digest
        return {name.removeprefix("--init ") for name in names}

    assert counted() == {"config.json", "tokenizer.json", "model.safetensors"}
    (model / "model.safetensors").unlink()
    assert counted() == {"config.json", "tokenizer.json", "pytorch_model.bin"}
    (model / "config.json").unlink()  # which makes the folder that of a model
    assert counted() == set()
