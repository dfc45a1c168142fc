"""The web process: takes mail in, shows what became of it, never answers any."""

from cleo_email.web.app import create_app, from_environment

__all__ = ["create_app", "from_environment"]
