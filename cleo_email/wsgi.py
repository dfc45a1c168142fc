"""``wsgi:app`` for an installed package, where the file beside the Procfile is not at hand."""

from cleo_email.entrypoints import web

app = web()
