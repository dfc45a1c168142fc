"""Webhooks of mail providers, a file for each: verify the request, extract the mail, store it."""
