import pytest
from helpers_scripts import refused

from train.benchmark import __main__ as benchmark


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        *((["--target-loss", value], f"--target-loss {float(value)} must be") for value in ("inf", "nan", "0")),
        (["--threads", "0"], "--threads 0 must be more than 0"),
        (["--rounds", "0"], "--rounds 0 must be more than 0"),
        (["--parts", ","], "--parts ',': name at least one"),
        (["--data", "shakespeare"], "--parts gpt-quality, gpt-int8 and joeynmt-training need --data"),
        (["--parts", "joeynmt-training"], "--parts gpt-quality, gpt-int8 and joeynmt-training need --data"),
        (["--parts", "gpt-int8,joeynmt-training", "--data", "a"], "--parts joeynmt-training reads pairs from --data"),
        (["--source", "de"], "--source and --target are for --parts joeynmt-training alone"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, message, capsys):
    assert refused(capsys, flags, benchmark.main).startswith(f"error: {message}")
