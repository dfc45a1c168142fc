"""``cleo-email recover``: after Redis was lost, take up again what the mailbox shows as unanswered."""

import dataclasses
import json

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, counter, settings_here, whole_number
from cleo_email.errors import CleoError
from cleo_email.pipeline.recover import Recovery
from cleo_email.runtime import set_up_logging

SHOWN = 50


@click.command(cls=SettingsCommand)
@click.option("--days", type=whole_number, default="7", show_default=True, help="How far to look back.")
@click.option("--apply", is_flag=True, help="Do it; without it nothing is changed.")
@as_json
def recover(days: int, apply: bool, as_json: bool) -> None:
    """After Redis was lost: take up unanswered mail again (a dry run unless --apply).

    The mailbox knows what was answered, by its flags and by what lies in Sent. What was held or has failed
    before, and what was opened without a trace of an answer, is held for a person.
    """
    set_up_logging()
    recoverer = App.for_worker(settings_here()).recoverer
    if recoverer is None:
        raise CleoError("EMAIL_IMAP_HOST is not set: there is no mailbox to recover from")
    result = recoverer.run(days=days, apply=apply, progress=counter(quiet=as_json))
    if as_json:
        print(json.dumps(dataclasses.asdict(result), indent=1))
    else:
        _print(result, days)


def _print(result: Recovery, days: int) -> None:
    would = "" if result.applied else "would be "
    held = f"{would}held for a person"
    print(f"the inbox of the last {days} days:")
    print(f"  {result.answered:6} answered (\\Answered, $CleoReplied, or an answer lies in Sent): left alone")
    print(f"  {result.taken_up:6} unanswered: {would}taken up again")
    print(f"  {result.held:6} held or failed before, or by a rule: {held}")
    if result.ignored:
        print(f"  {result.ignored:6} automatic mail and the like, which nobody answers: ignored")
    if result.failed:
        print(f"  {result.failed:6} cannot be fetched or read{': recorded as failed' * result.applied}")
    if result.known:
        print(f"  {result.known:6} known to Redis already")
    if result.unknown or not result.keywords:
        print(f"  {result.unknown:6} opened, and nothing shows whether they were answered: {held}")
    if not result.keywords:
        print("this server keeps no keywords: what was accepted, held or failed before cannot be told from")
        print("mail that a person opened; what was answered is known by \\Answered and by Sent")
    for line in result.subjects[:SHOWN]:
        print(f"    {line}")
    if len(result.subjects) > SHOWN:
        print(f"    … and {len(result.subjects) - SHOWN} more")
    if not result.applied:
        print("nothing was changed; to do it: cleo-email recover --apply")
