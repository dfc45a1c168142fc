"""Whether a command was given in the wrong directory."""

from __future__ import annotations

import os
from pathlib import Path

from cleo_email.settings.reading import DOTENV


def no_dotenv() -> str:
    """`` (there is no .env in /the/dir)`` where neither that nor ENABLED_CLIENTS is there, else nothing."""
    if DOTENV.exists() or os.environ.get("ENABLED_CLIENTS", "").strip():
        return ""
    return f" (there is no .env in {Path.cwd()})"
