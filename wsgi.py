"""The web process's door: ``gunicorn wsgi:app``."""

from cleo_email.doors import web

app = web()
