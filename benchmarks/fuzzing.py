"""What the fuzz targets share: atheris if it is installed, seeds of our own and from the corpora."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.corpora import CORPORA
from tests.support.messages import SAMPLES


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
    seeds = Path(tempfile.mkdtemp(prefix="seeds-"))
    for sample in SAMPLES:
        (seeds / sample.name).write_bytes(sample.source)
    arguments = [*arguments, str(seeds)]
    if CORPORA.is_dir():
        arguments = [*arguments, str(CORPORA)]
    atheris.instrument_all()
    atheris.Setup(arguments, one_input)
    atheris.Fuzz()
