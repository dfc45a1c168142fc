"""Decide by a mail's content whether it may be answered. Only ``dkim`` does I/O, to ask DNS."""
