"""``script/crash-test``: kill it everywhere and count.

script/crash-test                   every point and every fault, some minutes; a table; exit status 1 for
                                    anything lost, doubled, late or uncertain without need
script/crash-test submit imap       only the rows whose name, group or way contain these words
script/crash-test --short           the few rows that tell most, about a minute
script/crash-test --random 1000     mails at random with duplicates, and a kill -9 every few seconds
script/crash-test --later 500       mails that an agent answers by callback, a tenth of them twice, with kills
script/crash-test --list            the names of all rows
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.crash import events, faults, later, people, points, short, stopped, table
from tests.crash.randomly import Random, run_random
from tests.crash.rig import Tally
from tests.crash.scenario import Scenario
from tests.support.signals import give_children_default_signals


def main() -> int:
    options = _options()
    give_children_default_signals()
    # Ended from outside, it still ends the servers and processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.random:
        plan = Random(
            mails=options.random,
            duplicates=options.duplicates,
            every=options.every,
            seed=options.seed,
            files=not options.no_filing,
        )
        return run_random(plan, options.directory or Path(tempfile.mkdtemp(prefix="crash-")))
    if options.later:
        directory = options.directory or Path(tempfile.mkdtemp(prefix="crash-"))
        return later.run_later(options.later, options.every, options.seed, directory)
    if options.embedded:
        os.environ["CRASH_TEST_EMBEDDED"] = "1"
    rows = (
        short.scenarios()
        if options.short
        else [
            *points.scenarios(),
            *people.scenarios(),
            *later.scenarios(),
            *events.scenarios(),
            *stopped.scenarios(),
            *faults.scenarios(),
        ]
    )
    chosen = [scenario for scenario in rows if _is_meant(scenario, options.words)]
    if not chosen:
        print(f"no row contains {' and '.join(options.words)}; see --list", file=sys.stderr)
        return 2
    if options.list:
        return _list(chosen)
    done = _run(chosen, options.jobs, options.directory)
    print(table.markdown(done) if options.markdown else table.plain(done))
    bad = [(scenario, tally) for scenario, tally in done if tally.problems]
    for scenario, tally in bad:
        print(f"\n{scenario.group} {scenario.name} by {scenario.ingress}:")
        for problem in tally.problems:
            print(f"  {problem}")
    print(f"\n{len(done)} rows, {len(bad)} with problems.")
    return 1 if bad or not done else 0


def _list(rows: list[Scenario]) -> int:
    try:
        for scenario in rows:
            print(f"{scenario.group}  {scenario.name}  {scenario.ingress}")
        sys.stdout.flush()
    except BrokenPipeError:  # | head; what is left in the buffer must not fail again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/crash-test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only rows that contain all of these words")
    parser.add_argument("--short", action="store_true", help="only the rows that the tests run, one minute")
    parser.add_argument("--embedded", action="store_true", help="the embedded IMAP server, not Dovecot")
    parser.add_argument("--jobs", type=int, default=4, help="rows that run side by side (4)")
    parser.add_argument("--random", type=int, metavar="N", help="the random run, with N mails")
    parser.add_argument("--later", type=int, metavar="N", help="the run with N answers by callback")
    parser.add_argument("--duplicates", type=int, default=20, metavar="PERCENT", help="delivered twice (20)")
    parser.add_argument("--every", type=float, default=4.0, metavar="SECONDS", help="between two kills (4)")
    parser.add_argument(
        "--no-filing", action="store_true", help="a provider that leaves the copies in Sent to us"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="print the table for the documentation")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    parser.add_argument("--directory", type=Path, help="keep logs and data here; it must not exist yet")
    options = parser.parse_args()
    if options.directory and options.directory.exists():
        parser.error(f"{options.directory} exists: data of an earlier run would be counted too")
    return options


def _is_meant(scenario: Scenario, words: list[str]) -> bool:
    text = f"{scenario.group} {scenario.name} {scenario.ingress}"
    return all(word in text for word in words)


def _run(chosen: list[Scenario], jobs: int, directory: Path | None) -> list[tuple[Scenario, Tally]]:
    base = directory or Path(tempfile.mkdtemp(prefix="crash-"))
    found: dict[int, Tally] = {}
    with ThreadPoolExecutor(jobs) as pool:
        tasks = {pool.submit(_one, s, base / f"{n:03}"): n for n, s in enumerate(chosen)}
        try:
            for task in as_completed(tasks):
                number = tasks[task]
                found[number] = task.result()
                _say(f"[{len(found)}/{len(chosen)}]", chosen[number], found[number])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if directory is None and not any(tally.problems for tally in found.values()):
        shutil.rmtree(base, ignore_errors=True)
    else:
        print(f"logs: {base}", file=sys.stderr)
    return [(chosen[number], found[number]) for number in sorted(found)]


def _say(count: str, row: Scenario, tally: Tally) -> None:
    word = "PROBLEM" if tally.problems else "ok"
    print(f"{count} {row.name} by {row.ingress}: {word}, {tally.seconds:.0f} s", file=sys.stderr, flush=True)


def _one(scenario: Scenario, directory: Path) -> Tally:
    try:
        return scenario.run(directory)
    except Exception as error:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "problems").write_text(traceback.format_exc())
        return Tally(lost=1, problems=[f"{type(error).__name__}: {str(error)[:2000]}"])


if __name__ == "__main__":
    sys.exit(main())
