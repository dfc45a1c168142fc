"""``cleo-email``: try it, run it, check it, and see what became of every message."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from cleo_email import __version__
from cleo_email.cli import check, demo, login, messages, poll, recover, run, send
from cleo_email.entrypoints import BAD_SETTINGS
from cleo_email.errors import CleoError, SettingsError
from cleo_email.settings import export_dotenv, no_dotenv

COMMANDS: tuple[Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None], ...] = (
    demo.add,
    run.add,
    check.add,
    poll.add,
    send.add,
    messages.add,
    login.add,
    recover.add,
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line's exit status: 0 well, 1 not well, 2 wrong usage, 3 wrong settings."""
    parser = argparse.ArgumentParser(prog="cleo-email", description="A mailbox for an AI agent.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        if arguments.command != "demo":  # which brings all its settings itself
            export_dotenv()
        status: int = arguments.call(arguments)
    except SettingsError as error:
        for fault in error.faults:
            print(f"cleo-email: {fault}{no_dotenv()}", file=sys.stderr)
        return BAD_SETTINGS
    except CleoError as error:
        where = "" if arguments.command == "demo" else no_dotenv()
        print(f"cleo-email: {error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # | head
        return 0
    return status
