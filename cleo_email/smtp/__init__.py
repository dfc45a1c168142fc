"""SMTP submission (RFC 6409): hand a finished mail to a server, and return the outcome."""
