"""The web process's entry point: ``gunicorn wsgi:app``."""

from cleo_email.entrypoints import web

app = web()
