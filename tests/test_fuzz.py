"""A few cases of every attack of `make fuzz`; with the slow tests, many more."""

import os
import time
import warnings

import pytest
from fuzz.__main__ import ATTACKS
from fuzz.harness import FAULTS, HANG, REFUSED, SUCCESS, TRACEBACK, WARNED, WRONG, Attack, require, run

from minitransformer import InputError

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.mark.parametrize("share", [1, pytest.param(60, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_case_succeeds_is_refused_in_one_line_or_says_what_it_did(attack, share, tmp_path):
    cases = range(max(1, round(share * attack.share)))
    faults = [case for case in run(attack, cases, 0, tmp_path / "attack") if case.outcome in FAULTS]
    assert not faults, "\n".join(f"case {number}: {outcome}: {detail}" for number, outcome, detail in faults)


def fails(error):
    raise error


@pytest.mark.parametrize(
    ("happening", "outcome"),
    [
        (lambda: None, SUCCESS),
        (lambda: fails(InputError("no")), REFUSED),
        (lambda: fails(SystemExit(2)), REFUSED),
        (lambda: warnings.warn("look", stacklevel=1), WARNED),
        (lambda: fails(KeyError("a bug")), TRACEBACK),
        (lambda: fails(SystemExit(1)), TRACEBACK),
        (lambda: os._exit(1), TRACEBACK),
        (lambda: time.sleep(100), HANG),
        (lambda: require(False, "wrong"), WRONG),
    ],
)
def test_outcomes_are_told_apart_and_the_next_case_follows(happening, outcome, tmp_path):
    attack = Attack("one", lambda folder: lambda draw: happening(), seconds=0.5)
    assert [(case.number, case.outcome) for case in run(attack, range(2), 0, tmp_path)] == [(0, outcome), (1, outcome)]
