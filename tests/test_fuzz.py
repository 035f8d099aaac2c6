"""A few cases of every attack of `make fuzz`; with the slow tests, many more."""

import jaxtyping
import pytest
from fuzz.__main__ import ATTACKS
from fuzz.harness import FAULTS, run


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Without shapes checked at every call, which would find mistyped values first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("share", [3, pytest.param(60, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_case_succeeds_is_refused_in_one_line_or_says_what_it_did(attack, share, tmp_path):
    cases = range(max(3, round(share * attack.share)))
    faults = [case for case in run(attack, cases, 0, tmp_path / "attack") if case.outcome in FAULTS]
    assert not faults, "\n".join(f"case {number}: {outcome}: {detail}" for number, outcome, detail in faults)
