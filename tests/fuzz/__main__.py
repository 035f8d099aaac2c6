"""Attack the library with damaged files, odd arguments and kills, and count what came of it.

make fuzz CASES=10000 KILLS=100 SEED=0                  every attack
make fuzz ONLY="data: csv" CASE=17 SEED=0               one case of one attack again, with all it says

Exit code 1 if anything ended in a traceback, a hang, or a wrong result without a word.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro
from fuzz import arguments, caches, commands, data_files, kills, runs, saved_models
from fuzz.harness import FAULTS, OUTCOMES, Attack, Case, run
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

FILES = (data_files, saved_models, runs, caches, arguments, commands)
ATTACKS = [attack for file in FILES for attack in file.ATTACKS]


@dataclass(frozen=True)
class FuzzSettings:
    """Attack the library with damaged files, odd arguments and kills, and count what came of it."""

    cases: int = 1000
    """Files and arguments, divided among the attacks."""
    kills: int = 10
    """Runs that are killed or interrupted, and resumed."""
    seed: int = 0
    """The same seed gives the same cases."""
    only: str = ""
    """Only attacks whose names contain this."""
    case: int | None = None
    """Only the case of this number of each attack; everything it says is printed."""


def numbers(attacks: list[Attack], cases: int) -> dict[Attack, range]:
    """How many cases each attack gets: by its share, rounded so that their sum is `cases`."""
    total, given, shares = sum(attack.share for attack in attacks), 0, 0.0
    counts = {}
    for attack in attacks:
        shares += attack.share
        upto = round(cases * shares / total)
        counts[attack], given = range(upto - given), upto
    return counts


def main() -> int:
    settings = tyro.cli(FuzzSettings, prog="make fuzz")
    chosen = [[attack for attack in some if settings.only in attack.name] for some in (ATTACKS, kills.ATTACKS)]
    counts = {}
    for attacks, cases in zip(chosen, (settings.cases, settings.kills), strict=True):
        counts |= numbers(attacks, cases)
    if settings.case is not None:
        counts = {attack: range(settings.case, settings.case + 1) for attacks in chosen for attack in attacks}
    console, began = Console(width=200), time.monotonic()
    found = attacked(counts, settings, console)
    seconds = time.monotonic() - began
    console.print(table(found))
    number = sum(map(len, found.values()))
    console.print(f"{number:,} cases in {seconds / 60:.1f} minutes, seed {settings.seed}", highlight=False)
    return int(any(case.outcome in FAULTS for cases in found.values() for case in cases))


def attacked(counts: dict[Attack, range], settings: FuzzSettings, console: Console) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        for attack, some in counts.items():
            if not some:
                continue
            task = progress.add_task(attack.name, total=len(some))
            found[attack.name] = []
            for case in run(attack, some, settings.seed, Path(folder) / "attack"):
                found[attack.name].append(case)
                progress.advance(task)
                if case.outcome in FAULTS or settings.case is not None:
                    detail = case.detail if settings.case is not None else " ".join(case.detail.split())[-300:]
                    console.print(f"{attack.name}, case {case.number}: {case.outcome}: {detail}", markup=False)
    return found


def table(found: dict[str, list[Case]]) -> Table:
    """Attacks by outcomes, as Markdown."""
    made = Table(box=MARKDOWN)
    for name in ("attack", *OUTCOMES, "cases"):
        made.add_column(name, justify="left" if name == "attack" else "right", no_wrap=True)
    total = Counter[str]()
    for name, cases in found.items():
        outcomes = Counter(case.outcome for case in cases)
        total += outcomes
        made.add_row(name, *(str(outcomes[outcome]) for outcome in OUTCOMES), str(len(cases)))
    made.add_row("all", *(str(total[outcome]) for outcome in OUTCOMES), str(total.total()))
    return made


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are not there in a forked process
    sys.exit(main())
