"""The one sentence that a person reads who has not installed the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from cleo_email.errors import CleoError

# From the folder: an index of packages may have another project of this name.
INSTALL = "pip install -e '.[embedded]' in the project's folder"


def require(module: str, purpose: str) -> ModuleType:
    """Import ``module``, which the extra ``embedded`` brings.

    Raises CleoError, whose text is the command that installs it, if it is absent.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CleoError(f"{purpose} needs the package {error.name or module}: {INSTALL}") from error
