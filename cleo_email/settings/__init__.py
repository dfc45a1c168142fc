"""The environment, read once at an entry point into one frozen ``Settings``."""

from cleo_email.settings.model import Settings
from cleo_email.settings.read import (
    DOTENV,
    doubts,
    export_dotenv,
    gather,
    make_settings,
    no_dotenv,
    read_settings,
)

__all__ = [
    "DOTENV",
    "Settings",
    "doubts",
    "export_dotenv",
    "gather",
    "make_settings",
    "no_dotenv",
    "read_settings",
]
