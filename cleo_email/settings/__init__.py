"""The environment, read once at an entry point into one frozen ``Settings``."""

from cleo_email.settings.model import Settings
from cleo_email.settings.reading import export_dotenv, gather, make_settings, read_settings

__all__ = ["Settings", "export_dotenv", "gather", "make_settings", "read_settings"]
