"""Cases of attacks, run one after another in a forked process, and what came of each.

An attack prepares what it needs in an empty folder once, and then strikes once a case: it damages something, calls the
library and checks the result. A case depends on the seed, the attack and its number alone, so that it can be repeated.
"""

import json
import os
import random
import select
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from helpers_processes import Child

from minitransformer.errors import InputError

SUCCESS, REFUSED, WARNED = "success", "one line, exit code 2", "warning"
TRACEBACK, HANG, WRONG = "traceback", "hang", "silent damage"
OUTCOMES = (SUCCESS, REFUSED, WARNED, TRACEBACK, HANG, WRONG)
FAULTS = (TRACEBACK, HANG, WRONG)
SECONDS = 20
"""How long a case may take. Most take milliseconds."""
LONGEST_LINE = 20_000


class WrongResultError(Exception):
    """A call succeeded, said nothing and gave something wrong."""


class HangError(BaseException):
    """Time is up. No `Exception`, so that nobody catches it."""


Strike = Callable[[random.Random], None]


@dataclass(frozen=True)
class Attack:
    """`begin` prepares and returns the function that makes one case. Of many cases, each attack gets its `share`."""

    name: str
    begin: Callable[[Path], Strike]
    share: float = 1.0
    seconds: float = SECONDS


class Case(NamedTuple):
    number: int
    outcome: str
    detail: str


def require(holds: bool, otherwise: object) -> None:
    if not holds:
        raise WrongResultError(str(otherwise))


def run(attack: Attack, numbers: range, seed: int, folder: Path) -> Iterator[Case]:
    """The cases of these numbers. If one ends the process or holds it up, another process goes on with the next."""
    waiting = list(numbers)
    while waiting:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        receiving, sending = os.pipe()
        child = Child(folder / "said", lambda todo=tuple(waiting), to=sending: work(attack, todo, seed, folder, to))
        os.close(sending)
        with os.fdopen(receiving, "rb", buffering=0) as reports:  # so that `select` sees all that waits
            for case in read_cases(reports, attack.seconds):
                waiting.remove(case.number)
                yield case
        child.kill()  # it has ended, or no longer answers
        code = child.wait()
        if waiting:
            if waiting == list(numbers) and code == 70:
                raise RuntimeError(f"{attack.name} could not begin:\n{child.err.read_text()}")
            how = Case(waiting.pop(0), HANG if code == -signal.SIGKILL else TRACEBACK, f"ended with {code}")
            yield how._replace(detail=f"{how.detail}: {child.err.read_text()[-500:]}")


def read_cases(reports, seconds: float) -> Iterator[Case]:
    """Until the process ends, or is silent for much longer than a case may take: the kernel or a library has it."""
    while select.select([reports], [], [], 2 * seconds + 60)[0]:
        if not (line := reports.readline()):
            return
        yield Case(*json.loads(line))


def work(attack: Attack, numbers: tuple[int, ...], seed: int, folder: Path, to: int) -> None:
    torch.set_num_threads(1)
    os.environ["MINITRANSFORMER_CACHE"] = str(folder / "cache")
    (folder / "work").mkdir()
    strike = attack.begin(folder / "work")
    with os.fdopen(to, "w") as reports:
        for number in numbers:
            outcome, detail = outcome_of(strike, attack, number, seed)
            print(json.dumps([number, outcome, detail[-3000:]]), file=reports, flush=True)


def outcome_of(strike: Strike, attack: Attack, number: int, seed: int) -> tuple[str, str]:
    draw = random.Random(f"{seed} {attack.name} {number}")
    torch.manual_seed(number)
    signal.signal(signal.SIGALRM, out_of_time)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            # Again and again, in case that something swallows the first.
            signal.setitimer(signal.ITIMER_REAL, attack.seconds, 1.0)
            try:
                strike(draw)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (InputError, OSError) as error:
            line = str(error)
            return (TRACEBACK, f"a line of {len(line)}: {line}") if len(line) > LONGEST_LINE else (REFUSED, line)
        except WrongResultError as error:
            return WRONG, str(error)
        except HangError:
            return HANG, "".join(traceback.format_exc())
        except SystemExit as exit_:
            return (REFUSED, "") if exit_.code == 2 else (TRACEBACK, f"exit code {exit_.code}")
        except BaseException:
            return TRACEBACK, traceback.format_exc()
    theirs = [str(warning.message) for warning in said if warning.category is UserWarning]
    return (WARNED, "; ".join(theirs)) if theirs else (SUCCESS, "")


def out_of_time(*_):
    raise HangError
