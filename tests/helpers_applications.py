"""Tiny runs of the applications."""

import json
from itertools import islice
from unittest.mock import patch

from train.applications.rivals import Contest


def run(application, folder, *flags, rivals=None):
    """Train the first so many `rivals`, or all, with `flags`; see that the loss falls and that there is a picture; the
    rows of `results.json`."""

    def contest(**fields):
        return Contest(**{**fields, "rivals": dict(islice(fields["rivals"].items(), rivals))})

    with patch.object(application, "Contest", contest):
        application.main(["--out", str(folder), "--device", "cpu", "--threads", "1", *flags])
    assert (folder / "picture.png").stat().st_size > 1000
    rows = json.loads((folder / "results.json").read_text())["rows"]
    for row in rows.values():
        for report in row.get("by_seed", {}).values():
            losses = [evaluation["loss"] for evaluation in report["validation"]]
            assert losses[-1] < losses[0]
    return rows
