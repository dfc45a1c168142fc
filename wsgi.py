"""The web process's entry point: ``gunicorn wsgi:app``."""

from cleo_email.web.app import from_environment

app = from_environment()
