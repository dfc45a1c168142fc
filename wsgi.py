"""The web process's door: ``gunicorn wsgi:app``."""

from cleo_email.cli.doors import web

app = web()
