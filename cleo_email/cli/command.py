"""What the commands share: the settings of this directory, options, the progress of long commands."""

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError, SettingsError
from cleo_email.settings import Settings, export_dotenv, no_dotenv, read_settings
from cleo_email.store import AT_WORK, WAITING, State, Store

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class SettingsCommand(click.Command):
    """A command that works by the settings of the environment and of ``.env``.

    click reads the arguments first: wrong usage and ``--help`` answer where the settings are wrong, too.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            export_dotenv()
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status
        except SettingsError as error:
            raise SettingsError([f"{fault}{no_dotenv()}" for fault in error.faults]) from None
        except CleoError as error:
            raise CleoError(f"{error}{no_dotenv()}") from None
        except BrokenPipeError:  # "| head" has read enough; what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def whole_number(text: str) -> int:
    """Read the value of an option that is a whole number from 1."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise click.BadParameter(f"found {text!r}, expected a whole number from 1")


def settings_here(**defaults: str) -> Settings:
    """Return the settings; a ``cleo-email run`` of this directory lends its Redis where they name none."""
    return read_settings(defaults={**embedded_redis(), **defaults})


def open_work(store: Store) -> str:
    """Return what is not over yet, in words, or '' where nothing is. Raise StoreUnavailable."""
    counts = {state: store.messages.count(state) for state in State}
    parts = [("waiting to be answered or sent", sum(counts[state] for state in AT_WORK))]
    parts += [(str(state), counts[state]) for state in State if state in WAITING]
    return ", ".join(f"{count} {name}" for name, count in parts if count)


def counter(*, quiet: bool, what: str = "mails") -> Callable[[int, int], None]:
    """Return a function of (done, total) that counts on standard error where that is a terminal."""
    shown = sys.stderr.isatty() and not quiet

    def count(done: int, total: int) -> None:
        if shown:
            print(f"\r{done} of {total} {what}", end="\n" * (done >= total), file=sys.stderr, flush=True)

    return count
