"""How mail is read: how much of it, how fast, how exactly replies are cut, and how hostile mail is borne.

    python benchmarks/reading.py [--json] [--no-hostile]

Reads public messages from CLEO_CORPORA (default ``../shared/corpora`` beside the repository). Each hostile
mail is read in a process of its own, so that its peak of memory is its own; that peak includes the source and
the interpreter. Exit status 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cleo_email.errors import UnreadableMessage  # noqa: E402
from cleo_email.mail.parse import attachment_text, parse  # noqa: E402
from cleo_email.mail.quotes import split_quoted  # noqa: E402
from tests.mail.hostile import HOSTILE  # noqa: E402
from tests.mail.replies import replies  # noqa: E402
from tests.support.corpora import CORPORA, MISSING, raw_messages, trimmer_cases  # noqa: E402

SECONDS, MEGABYTES, RATE, TRIMMED = 2.0, 300, 1000, 45
Figures = dict[str, float]


def corpora() -> Figures:
    """Read every raw message; the rate is the best of five rounds on one core, HTML and quotes included."""
    sources = [path.read_bytes() for path in raw_messages(CORPORA)]
    raised = 0
    for source in sources:
        try:
            for attachment in parse(source).attachments:
                attachment_text(attachment)
        except Exception as error:
            raised += 1
            print(f"  raised {error!r}", file=sys.stderr)
    best = min(_seconds(lambda: [parse(source).text for source in sources]) for _ in range(5))
    size = sum(map(len, sources))
    return {
        "messages": len(sources),
        "raised": raised,
        "messages_per_second": round(len(sources) / best),
        "megabytes_per_second": round(size / best / 1e6, 1),
    }


def reply_extraction() -> Figures:
    """Count the replies whose new part is found to the letter, outer white space aside."""
    others = trimmer_cases(CORPORA)
    ours = replies()
    return {
        "trimmer_cases": len(others),
        "trimmer_exact": sum(split_quoted(text).text.strip() == new.strip() for _, text, new in others),
        "multilingual_cases": len(ours),
        "multilingual_exact": sum(split_quoted(case.full).text == case.new for case in ours),
    }


def hostile(name: str) -> Figures:
    """Read one hostile mail in this process."""
    source = HOSTILE[name]()
    begin = time.process_time()
    try:
        _ = parse(source).text
        refused = 0
    except UnreadableMessage:
        refused = 1
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "megabytes": round(peak), "refused": refused}


def _all_hostile(quiet: bool) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for name in HOSTILE:
        command = [sys.executable, __file__, "--one", name]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found[name] = json.loads(answer.stdout)
        if not quiet:
            figures = found[name]
            end = "refused" if figures["refused"] else "read"
            print(f"  {figures['seconds']:5.2f} s {figures['megabytes']:5.0f} MB  {name}: {end}")
    return found


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _goals(read: Figures, cut: Figures, hard: dict[str, Figures]) -> list[tuple[str, bool]]:
    rate, exact = read["messages_per_second"], cut["trimmer_exact"]
    goals = [
        (f"{read['messages']} messages read, {read['raised']} raised", read["raised"] == 0),
        (f"{rate} messages/s, {read['megabytes_per_second']} MB/s on one core (goal {RATE})", rate >= RATE),
        (f"email_reply_trimmer: {exact} of {cut['trimmer_cases']} exact (goal {TRIMMED})", exact >= TRIMMED),
        (
            f"clients and languages: {cut['multilingual_exact']} of {cut['multilingual_cases']} exact",
            cut["multilingual_exact"] == cut["multilingual_cases"],
        ),
    ]
    if hard:
        slowest = max(figures["seconds"] for figures in hard.values())
        largest = max(figures["megabytes"] for figures in hard.values())
        goals.append((f"{len(hard)} hostile mails: slowest {slowest} s (goal {SECONDS})", slowest < SECONDS))
        goals.append(
            (f"{len(hard)} hostile mails: largest {largest} MB (goal {MEGABYTES})", largest < MEGABYTES)
        )
    return goals


def main() -> int:
    parser = argparse.ArgumentParser(description="How mail is read, in figures.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--no-hostile", action="store_true", help="leave the hostile mails out")
    parser.add_argument("--one", choices=list(HOSTILE), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(hostile(arguments.one)))
        return 0
    if not CORPORA.is_dir():
        print(f"skipped: {MISSING}")
        return 0
    read, cut = corpora(), reply_extraction()
    hard = {} if arguments.no_hostile else _all_hostile(quiet=arguments.json)
    goals = _goals(read, cut, hard)
    if arguments.json:
        print(json.dumps({"corpora": read, "replies": cut, "hostile": hard}, indent=2))
    else:
        for words, reached in goals:
            print(f"{'ok  ' if reached else 'MISS'} {words}")
    return 0 if all(reached for _, reached in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
