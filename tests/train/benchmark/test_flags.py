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
        (["--data", "shakespeare"], "--parts gpt-quality and gpt-int8 need --data"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, message, capsys):
    assert refused(capsys, flags, benchmark.main).startswith(f"error: {message}")
