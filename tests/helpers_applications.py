"""Tiny runs of the applications."""

import json


def run(application, folder, *flags):
    """Train with `flags`, see that the loss falls and that there is a picture; the rows of `results.json`."""
    application.main(["--out", str(folder), "--device", "cpu", "--threads", "1", *flags])
    assert (folder / "picture.png").stat().st_size > 1000
    rows = json.loads((folder / "results.json").read_text())["rows"]
    for row in rows.values():
        for report in row.get("by_seed", {}).values():
            losses = [evaluation["loss"] for evaluation in report["validation"]]
            assert losses[-1] < losses[0]
    return rows
