"""What the fuzz targets share: atheris if it is installed, seeds from the corpora."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("CLEO_CORPORA", ROOT.parent / "shared" / "corpora"))


def run(one_input: Callable[[bytes], None], arguments: list[str]) -> None:
    """Feed ``one_input`` until libFuzzer's limits are reached or it raises. Does not return.

    Without a folder among ``arguments``, what libFuzzer learns goes to a temporary one.
    """
    try:
        import atheris
    except ImportError:
        sys.exit(
            "atheris is not installed (pip install atheris); it is optional and not needed to run or test"
        )
    if all(argument.startswith("-") for argument in arguments[1:]):
        arguments = [*arguments, tempfile.mkdtemp(prefix="fuzz-")]
    if CORPORA.is_dir():
        arguments = [*arguments, str(CORPORA)]
    atheris.instrument_all()
    atheris.Setup(arguments, one_input)
    atheris.Fuzz()
