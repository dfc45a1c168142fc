"""``cleo-email recover``: take up again what a lost Redis, or the one of a trial, left unanswered."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, counter, open_work, settings_here, whole_number
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.errors import CleoError
from cleo_email.pipeline.recover import Recovery
from cleo_email.runtime import set_up_logging
from cleo_email.settings import gather
from cleo_email.store import Store
from cleo_email.store.connection import connect_worker
from cleo_email.store.copy import copy_store, holds_messages

SHOWN = 50


@click.command(cls=SettingsCommand)
@click.option("--days", type=whole_number, default="7", show_default=True, help="How far to look back.")
@click.option("--apply", is_flag=True, help="Do it; without it nothing is changed.")
@click.option(
    "--from",
    "data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Instead: take along all that the Redis of a cleo-email run holds, whose --data was FOLDER.",
)
@as_json
def recover(days: int, apply: bool, data: Path | None, as_json: bool) -> None:
    """After Redis was lost: take up unanswered mail again (a dry run unless --apply).

    The mailbox knows what was answered, by its flags and by what lies in Sent. What was held or has failed
    before, and what was opened without a trace of an answer, is held for a person.

    With --from nothing was lost: what the Redis of a cleo-email run holds is copied to that of REDIS_URL.
    """
    set_up_logging()
    if data is not None:
        _take_along(data, apply=apply, as_json=as_json)
        return
    recoverer = App.for_worker(settings_here()).recoverer
    if recoverer is None:
        raise CleoError("EMAIL_IMAP_HOST is not set: there is no mailbox to recover from")
    result = recoverer.run(days=days, apply=apply, progress=counter(quiet=as_json))
    if as_json:
        print(json.dumps(dataclasses.asdict(result), indent=1))
    else:
        _print(result, days)


def _take_along(data: Path, *, apply: bool, as_json: bool) -> None:
    """Copy a trial's Redis to that of REDIS_URL, and put its folder aside: two would answer the same mail."""
    folder = data / "redis"
    if "REDIS_URL" not in gather():
        raise CleoError(f"REDIS_URL is not set: let it name the Redis that is to have what {folder} holds")
    if not folder.is_dir():
        moved = ", ".join(str(path) for path in sorted(data.glob("redis-moved-*")))
        told = f" ({moved} was taken along already)" if moved else ""
        raise CleoError(
            f"{folder}: there is no such folder{told}; --from takes what run --data took, such as var"
        )
    target = App.for_worker(settings_here())
    with EmbeddedRedis(folder) as server:
        redis = connect_worker(server.url, connections=2)
        found = open_work(Store(redis)) or "nothing open"
        if holds_messages(target.redis):
            raise CleoError(
                "the Redis of REDIS_URL holds messages already, and two cannot become one: name an empty one "
                "(such as database 1: redis://…/1), or take up the mail of the mailbox: cleo-email recover"
            )
        keys = copy_store(redis, target.redis, counter(quiet=as_json, what="keys")) if apply else 0
    aside = folder.with_name(f"redis-moved-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if apply:
        folder.rename(aside)
    if as_json:
        print(json.dumps({"found": found, "keys": keys, "applied": apply}, indent=1))
    elif apply:
        print(
            f"taken along to the Redis of REDIS_URL: {found}, and all that is over; {folder} is {aside} now"
        )
    else:
        print(f"{folder} holds {found}, besides all that is over")
        print(f"nothing was changed; with web and worker stopped: cleo-email recover --from {data} --apply")


def _print(result: Recovery, days: int) -> None:
    would = "" if result.applied else "would be "
    held = f"{would}held for a person"
    print(f"the inbox of the last {days} days:")
    print(f"  {result.answered:6} answered (\\Answered, $CleoReplied, or an answer lies in Sent): left alone")
    print(f"  {result.taken_up:6} unanswered: {would}taken up again")
    print(f"  {result.held:6} held, failed or left unread before, or by a rule: {held}")
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
