"""Presets: values of a job's flags under one name, `--preset NAME`.

They lie above the defaults and below the flags of `--config` and of the command line.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import tyro

from minitransformer.checks import flag_name

LENGTH = ("steps", "minutes", "epochs")
"""The flags that limit a run. One that the user gives takes the place of all that a preset has."""


@dataclass(frozen=True)
class Preset:
    """`about` is its line in --help. `flags` are values by the names of the fields of the job's settings; its "data"
    are the data that the others were chosen on."""

    about: str
    flags: Mapping[str, Any] = field(default_factory=dict)

    def values(self, named: Collection[str]) -> dict[str, Any]:
        """The flags but for those that the user `named`."""
        replaced = {*named, *(LENGTH if {*LENGTH} & {*named} else ())}
        return {name: value for name, value in self.flags.items() if name not in replaced}

    def overruled(self, settings: Any) -> str:
        """One line about the flags that have other values in `settings`; "" if none has."""
        other = [name for name, value in self.flags.items() if getattr(settings, name) != value]
        if not other:
            return ""
        listed = ", ".join(f"{flag_name(name)} {self.flags[name]}" for name in other)
        elsewhere = "; it was not chosen on these data" if "data" in other else ""
        return f"--preset {settings.preset}: other flags replace its {listed}{elsewhere}"


def preset_flag(presets: Mapping[str, Preset], about: str) -> Any:
    """How --help shows the flag --preset: what it is `about`, and a line for each preset."""
    lines = (about, *(f"{name}: {preset.about}" for name, preset in presets.items()))
    return tyro.conf.arg(help="\n".join(lines), metavar=f"{{{','.join(presets)}}}")
