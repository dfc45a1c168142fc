"""The web process's entry point: ``gunicorn wsgi:app``."""

from cleo_email.doors import web

app = web()
