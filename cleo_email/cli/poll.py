"""``cleo-email poll``: read the mailbox once, now. For cron, Heroku Scheduler and the impatient."""

import dataclasses
import json
import os

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, counter, settings_here
from cleo_email.crashpoints import arm
from cleo_email.errors import CleoError
from cleo_email.runtime import set_up_logging


@click.command(cls=SettingsCommand)
@as_json
def poll(as_json: bool) -> None:
    """Read the mailbox once, now; a worker answers what it finds.

    For cron and the like. A worker polls by itself and needs no such help.
    """
    set_up_logging()
    arm(os.environ)
    poller = App.for_worker(settings_here().with_email()).poller
    if poller is None:
        raise CleoError("EMAIL_IMAP_HOST is not set: there is no mailbox to poll")
    result = poller.run(force=True, progress=counter(quiet=as_json))
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
    elif result.busy:
        print("another process is polling this mailbox right now; nothing to do")
    else:
        print(
            f"{result.accepted} new mails ({result.held} of them held), {result.duplicates} known, "
            f"{result.quarantined} quarantined"
        )
