"""The environment, read once at a door into one frozen ``Settings``."""

from cleo_email.settings.model import Settings
from cleo_email.settings.reading import read_settings

__all__ = ["Settings", "read_settings"]
