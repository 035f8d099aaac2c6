"""One small run on dates that all tests of the job and of its models share."""

import pytest

from minitransformer.data import load
from train.translate import __main__ as translate
from train.translate import exact_match


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of three steps, on dates in three locales; dateparser does not know one of them."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--locales", "de,yo,en", "--models", "rnn-location,rnn-none,transformer", "--steps", "3"]
    flags += ["--evaluations", "1", "--device", "cpu", "--threads", "1"]
    with pytest.MonkeyPatch.context() as patch:
        # The maps of four long dates would take most of the time; those of one short string show the same.
        patch.setattr(exact_match, "chosen_examples", lambda pairs: [("3/9/16", "2016-03-09")])
        patch.setattr(translate, "load", lambda *args, **options: load(*args, **options, count=400))
        translate.main([*flags, "--out", str(folder)])
    return folder
