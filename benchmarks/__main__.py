"""What it costs and how fast it is, beside what this machine does bare.

    python -m benchmarks                      the table, in less than three minutes
    python -m benchmarks --only ingest        some of it; may be given several times
    python -m benchmarks --full --json        the numbers of docs/performance.md, for a program

Needs the installation of development (``script/test`` makes it). Servers are those that are installed, else
the embedded ones. Close everything else: it takes what the machine has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import conversations, cost, events, ingest, webhook
from benchmarks.harness import Plan, Row, say, server_name, table
from tests.support.redis_server import binary
from tests.support.signals import give_children_default_signals

MEASUREMENTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "ingest": ingest.rows,
    "webhook": webhook.rows,
    "latency": conversations.latency,
    "conversations": conversations.many,
    "backlog": conversations.backlog,
    "kill": conversations.kill,
    "events": events.rows,
    "records": cost.records,
    "roundtrips": cost.round_trips,
    "idle": cost.idle,
    "help": cost.help_text,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), metavar="NAME",
                        help=", ".join(MEASUREMENTS))  # fmt: skip
    parser.add_argument("--full", action="store_true", help="more of everything: about twenty minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    give_children_default_signals()
    # Ended from outside, it still ends the servers and processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    rows: list[Row] = []
    failed = False
    for name in options.only or MEASUREMENTS:
        say(f"{name} …")
        try:
            rows += MEASUREMENTS[name](Plan(full=options.full))
        except Exception as error:
            failed = True
            say(f"{name} could not be measured: {type(error).__name__}: {error}")
    machine = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "redis": binary().name,
        "imap": server_name(),
        "seconds": round(time.monotonic() - begun),
    }
    if options.json:
        print(json.dumps({"machine": machine, "rows": [row.as_json() for row in rows]}, indent=1))
    else:
        print(table(rows))
        print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
