"""Numbers by chance are other ones in each process, whatever its forks and its agent do."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, random
from cleo_email.runtime import random_bits
random_bits(96)
for _ in range(3):
    random.seed(1)
    if not os.fork():
        break
os.write(1, f"{random_bits(96):024x}\\n".encode())
"""


def test_processes_that_fork_draw_other_numbers() -> None:
    drawn = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    # Wait for all: the output ends when the last of them has closed it.
    numbers = drawn.stdout.split()
    assert len(numbers) == len(set(numbers)) == 4
    assert all(len(number) == 24 for number in numbers)
