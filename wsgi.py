"""The web process's entry point: ``gunicorn wsgi:app``."""

from cleo_email.web import from_environment

app = from_environment()
