"""``cleo-email``: try it, run it, check it, and see what became of every message."""

import io
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from cleo_email import __version__
from cleo_email.embedded import how_to_install
from cleo_email.errors import BAD_SETTINGS, CleoError, SettingsError

COMMANDS = {  # each in the module of its name
    "demo": "See it work: everything embedded, one mail each way.",
    "run": "Run web and worker, with an embedded Redis unless REDIS_URL is set.",
    "check": "Test settings, Redis, IMAP, SMTP and the agent, a line each.",
    "poll": "Read the mailbox once, now; a worker answers what it finds.",
    "send": "Send a mail from the agent's address; a worker submits it.",
    "messages": "See what became of each message, and decide about those that wait.",
    "events": "See whether events wait to be told, and let them be told again.",
    "login": "Log in to the mailbox at Google or Microsoft with a browser.",
    "recover": "After Redis was lost: take up unanswered mail again.",
}


class LazyGroup(click.Group):
    """Load the module of a command when that command is called, for each loads half of the package.

    The help, the completion and the suggestions for a misspelt name take the names and summaries above.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order above, not by the alphabet

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name and command:
            try:
                command = getattr(import_module(f"{__name__}.{name}"), name)
            except ModuleNotFoundError as error:
                raise CleoError(f"{name} needs the package {error.name}: {how_to_install()}") from error
        return name, command, rest


@click.group(
    cls=LazyGroup,
    commands=[click.Command(name, short_help=summary) for name, summary in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(version)s")
def command_line() -> None:
    """A mailbox for an AI agent."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 well, 1 not well, 2 wrong usage, 3 wrong settings, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a subject may hold what the terminal has no letter for
        sys.stdout.reconfigure(errors="replace")
    try:
        status = command_line.main(argv, prog_name="cleo-email", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        return 130
    except SettingsError as error:
        for fault in error.faults:
            print(f"cleo-email: {fault}", file=sys.stderr)
        return BAD_SETTINGS
    except CleoError as error:
        print(f"cleo-email: {error}", file=sys.stderr)
        return 1
    return int(status or 0)
