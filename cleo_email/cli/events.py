"""``cleo-email events``: whether events wait to be told to CLEO_EVENTS_URL, and telling them again."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, counter, settings_here
from cleo_email.errors import CleoError
from cleo_email.runtime import DAY, HOUR, MINUTE, SECOND
from cleo_email.store import iso

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def moment(text: str) -> tuple[int, int]:
    """Read ``2h`` as (0, 2 hours in ms), a time in ISO 8601 (UTC without a zone) as (ms since 1970, 0)."""
    if found := re.fullmatch(r"(\d{1,6})([smhd])", text.strip()):
        return 0, int(found[1]) * _UNITS[found[2]]
    try:
        at = datetime.fromisoformat(text.strip())
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000), 0
    except (ValueError, OverflowError):
        expected = "a time such as 2026-11-24T09:00Z, or 30m, 2h, 3d before now"
        raise click.BadParameter(f"found {text[:40]!r}, expected {expected}") from None


def _app() -> App:
    app = App(settings_here())
    if not app.settings.events_url.get_secret_value():
        raise CleoError("CLEO_EVENTS_URL is not set: nobody is told of changes")
    return app


@click.group()
def events() -> None:
    """See whether events wait to be told, and let them be told again."""


@events.command(cls=SettingsCommand)
@as_json
def status(as_json: bool) -> int:
    """Show what waits and what was told. The exit status is 1 while the receiver takes nothing."""
    found = _app().store.event_log.status()
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print(f"{found.messages:8} messages with events that wait")
        print(f"{found.delivered:8} events delivered")
        print(f"{found.given_up:8} given up after 24 hours, or on 410 Gone")
        print(f"{found.dropped:8} not kept, because too many waited")
        if found.fault:
            print(f"since {iso(found.failing_since)}: {found.fault}")
    return int(bool(found.fault))


@events.command(cls=SettingsCommand)
@click.option("--since", type=moment, required=True, metavar="TIME", help="2h, 3d or 2026-11-24T09:00Z.")
@as_json
def resend(since: tuple[int, int], as_json: bool) -> int:
    """Tell every change since then again, from the history of the records that are kept.

    Each has the id that it had the first time, so that a receiver knows again what it has already. State,
    time, reason and by are those of then; the rest of the record is as it is today. A worker delivers them.
    """
    app = _app()
    now = app.clock()
    start = now - since[1] if since[1] else since[0]
    if start > now:
        raise click.UsageError(f"--since {iso(start)} has not come yet")
    count, show = 0, counter(quiet=as_json, what="messages")
    for number, added in enumerate(app.store.event_log.again(app.store.messages, start, now), 1):
        if added < 0:
            raise CleoError(
                f"{count} events wait to be told again, and there is no room for more: run it again once "
                "they are delivered (cleo-email events status)"
            )
        count += added
        show(number, number + 1)
    if as_json:
        print(json.dumps({"since": iso(start), "events": count}, indent=1))
    else:
        print(f"{count} events since {iso(start)} wait to be told again; a worker delivers them")
    return 0
