import pytest
from helpers_scripts import refused

from train.benchmark import __main__ as benchmark


@pytest.mark.parametrize("value", ["inf", "nan", "0"])
def test_a_loss_to_reach_must_be_one_that_can_be_reached(value, capsys):
    line = refused(capsys, ["--target-loss", value], benchmark.main)
    assert line.startswith(f"error: --target-loss {float(value)} must be")
