"""The web process: it receives mail and shows the records; it never answers mail."""

from cleo_email.web.app import create_app, from_environment

__all__ = ["create_app", "from_environment"]
