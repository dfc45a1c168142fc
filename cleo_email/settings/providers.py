"""The mail providers of ``providers.toml``: their servers, and what a program needs to log in there."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Preset:
    """A provider's servers (IMAP on port 993).

    ``needs`` says in one line what a login takes there, ``oauth_needs`` what one by token takes beyond it.
    """

    name: str
    title: str
    smtp_host: str
    smtp_port: int
    imap_host: str
    needs: str
    oauth_needs: str = ""
    aliases: Sequence[str] = ()


@cache
def presets() -> dict[str, Preset]:
    blocks = tomllib.loads(files(__package__).joinpath("providers.toml").read_text("utf-8"))
    return {name: Preset(name, **block) for name, block in blocks.items()}


def find_preset(name: str) -> Preset | None:
    """Return the provider of this name or alias, in any case."""
    key = name.strip().lower()
    return next((found for found in presets().values() if key == found.name or key in found.aliases), None)


def preset_of_host(*hosts: str | None) -> Preset | None:
    """Return the provider that one of these servers belongs to, for settings that name the hosts."""
    wanted = {host.lower().rstrip(".") for host in hosts if host}
    found = (preset for preset in presets().values() if {preset.smtp_host, preset.imap_host} & wanted)
    return next(found, None)
