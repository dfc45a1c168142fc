"""Settings for a library call: read anew only when something changed of what they are made from."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cleo_email.settings.model import Settings
from cleo_email.settings.reading import DOTENV, NAMES, gather, make_settings

TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_NAMES = (*sorted(NAMES), *TRUST)
_FILES = ("CLEO_WORKFLOWS", *TRUST)  # variables that name files which the settings are made from
_Mark = tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """``given`` are the values that ``settings`` were made from, by name."""

    settings: Settings
    given: Mapping[str, str] = field(repr=False)


class RememberedSettings:
    """Reading takes up to 15 ms, most of it a trust store; to see that nothing changed takes 0.1 ms."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._kept: tuple[object, Mapping[str, _Mark], Reading] | None = None

    def read(self, defaults: Mapping[str, str]) -> Reading:
        """As ``read_settings``, from the environment and ``.env`` as they are now. Raises SettingsError.

        The file is the calling application's: lines in it that cannot be read are passed over.
        """
        sources = _sources(defaults)
        with self._guard:
            if self._kept and self._kept[0] == sources and self._kept[1] == _marks(self._kept[1]):
                return self._kept[2]
        given = gather(defaults=defaults, foreign=True)
        marks = _marks({given[name]: () for name in _FILES if name in given})
        reading = Reading(make_settings(given), given)
        with self._guard:
            self._kept = (sources, marks, reading)
        return reading


def _sources(defaults: Mapping[str, str]) -> object:
    """Compared by what it holds: the file is small, and its time of change may be too coarse."""
    try:
        dotenv = DOTENV.read_bytes()
    except OSError:
        dotenv = None
    return [os.environ.get(name) for name in _NAMES], dotenv, dict(defaults)


def _marks(paths: Mapping[str, _Mark]) -> dict[str, _Mark]:
    return {path: _mark(path) for path in paths}


def _mark(path: str) -> _Mark:
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
