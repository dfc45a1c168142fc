"""The pages: what waits, a thread as a conversation with what can be decided, and whether mail flows."""

from __future__ import annotations

import logging
from collections import Counter
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from cleo_email.errors import InvalidField, NotFound, SettingsError, StoreUnavailable, WrongState, place_of
from cleo_email.mail.model import AttachedFile
from cleo_email.pipeline.decide import DECISIONS
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.runtime import HOUR, MINUTE, SECOND
from cleo_email.scrub import no_surrogates
from cleo_email.store import AT_WORK, LOGIN, WAITING, Record, State
from cleo_email.store.figures import DAY_MS, DayFigures
from cleo_email.store.messages import UNASKED
from cleo_email.web.bodies import RequestRefused, answer_to, current
from cleo_email.web.operator import access, login, pictures, text
from cleo_email.web.operator.conversation import conversation, html_of, incoming, kept_answer
from cleo_email.web.operator.words import decimal, language, reason, say, span
from cleo_email.web.operator.words import fault as fault_in_words
from cleo_email.web.routes import why_not_ready

log = logging.getLogger(__name__)

ROWS = 50
DAYS = 14
SAFE_TYPE = "application/octet-stream"
WAITS, ALL = "waiting", "all"
# What a person may decide, and in which states it is offered. The decision itself checks again.
ACTIONS = {
    "approve": {State.REVIEW},
    "discard": {State.REVIEW},
    "release": {State.HELD, State.IGNORED},
    "retry": {State.FAILED, State.UNCERTAIN},
    "dismiss": {State.HELD, State.FAILED, State.UNCERTAIN},
    "takeover": set(State),
    "handback": set(State),
}
_SCALE = (
    (SECOND, "1 s"),
    (10 * SECOND, "10 s"),
    (MINUTE, "1 min"),
    (10 * MINUTE, "10 min"),
    (HOUR, "1 h"),
    (10 * HOUR, "10 h"),
    (100 * HOUR, "4 d"),
)


def operator_pages() -> Blueprint:
    """Return the pages under /operator/."""
    bp = Blueprint(
        "operator", __name__, url_prefix="/operator", template_folder="templates", static_folder="static"
    )
    login.add_login(bp)
    bp.get("/")(messages)
    bp.get("/messages/<id_>")(message)
    bp.post("/messages/<id_>/preview")(preview)
    bp.get("/messages/<id_>/answer")(answer_as_sent)
    bp.get("/messages/<id_>/text")(whole_text)
    bp.get("/messages/<id_>/<any(mail, answer):which>/files/<int:number>")(file)
    bp.post("/messages/<id_>/<any({}):action>".format(", ".join(ACTIONS)))(decide)
    bp.get("/health")(health)
    bp.route("/<path:rest>", methods=["GET", "POST"])(nothing)
    bp.before_request(_admit)
    bp.after_request(access.finish)
    bp.register_error_handler(Exception, _fault_page)
    bp.app_template_filter("plain")(text.plain)
    bp.app_template_filter("body")(text.body)
    bp.app_template_filter("moment")(text.moment)
    bp.app_template_filter("moment_of")(text.moment_of)
    bp.app_template_filter("span")(span)
    bp.app_template_filter("decimal")(decimal)
    bp.app_template_filter("reason")(reason)
    bp.context_processor(_everywhere)
    return bp


def _everywhere() -> dict[str, object]:
    return {
        "say": say,
        "language": language(),
        "form_token": access.form_token,
        "visitor": g.get("visitor"),
        "mailbox": current().settings.from_address.addr,
        "State": State,
    }


# --- who may see a page ------------------------------------------------------------------------------------

_OPEN = {f"operator.{name}" for name in "login mail_link use_token show_link use_link logout".split()}


def _admit() -> AnyResponse | None:
    """Let through who is logged in; read the form of a POST, and refuse one that is not ours."""
    if request.endpoint == "operator.static":
        return None
    if not current().settings.enabled:
        raise RequestRefused(404, "the email channel is not enabled: ENABLED_CLIENTS does not list email")
    posted = request.method == "POST"
    if posted:
        access.refuse_other_origins()
        g.fields = access.read_fields()
    g.visitor = access.visitor()
    if g.visitor is None and request.endpoint not in _OPEN:
        return _once_more(401) if posted else _ask_to_log_in()
    if posted and not access.shows_token(g.fields):
        return _once_more(403)
    return None


def _ask_to_log_in() -> AnyResponse:
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and "again" not in request.args:
        # From a link in a mail no browser sends the session: it does when this page asks for the same again.
        query = urlencode({**request.args.to_dict(), "again": 1})
        target = f"{request.script_root}{request.path}?{query}"
        return Response(render_template("operator/again.html", target=target))
    if "part" in request.args:
        raise RequestRefused(401, say("You are not logged in any more."))
    if access.is_open():
        return login.login_page(403)
    target = request.script_root + request.full_path.rstrip("?")
    return redirect(url_for("operator.login", next=target), 303)


def _once_more(status: int) -> Response:
    """Show what was typed, so that it is not lost, and a button that sends it once more after the login."""
    kept = {name: value for name, value in g.fields.items() if name not in ("token", "secret")}
    secret_form = request.endpoint in _OPEN
    return Response(render_template("operator/lost.html", kept=kept, secret_form=secret_form), status)


def nothing(rest: str) -> AnyResponse:
    raise NotFound(say("There is no such page."))


def _fault_page(fault: Exception) -> Response:
    if isinstance(fault, SettingsError):  # each page names the mailbox: there is none
        return answer_to(fault)
    headers = {}
    match fault:
        case RequestRefused():
            status, said, headers = fault.status, fault.message, fault.headers
        case StoreUnavailable():
            log.error("%s", fault)
            status, headers = 503, {"Retry-After": "30"}
            said = say("Redis does not answer: nothing can be shown. Try again soon: nothing is done twice.")
        case NotFound():
            status, said = 404, str(fault)
        case WrongState():
            status, said = 409, str(fault)
        case InvalidField():
            status, said = 422, str(fault)
        case HTTPException():
            status, said = fault.code or 500, fault.description or fault.name
        case _:  # any other error is caught here; its text may hold what a stranger sent
            log.error("unexpected %s", place_of(fault))
            status, said = 500, say("An internal fault; it is in the log.")
    said, fields = fault_in_words(status, said), g.get("fields", {})
    # What somebody wrote is not lost with the page that it was written on.
    kept = fields if "body" in fields and request.endpoint == "operator.decide" else {}
    page = render_template("operator/fault.html", status=status, said=said, kept=kept)
    return Response(page, status, headers)


# --- the list ----------------------------------------------------------------------------------------------


def messages() -> str:
    """List the messages: those that wait for a person first."""
    store, cursor = current().store.messages, request.args.get("cursor", "")
    asked = no_surrogates(request.args.get("q", "").strip())[:200]
    state = request.args.get("state", "")
    state = state if state in (ALL, *State) else (ALL if asked else WAITS)
    if not all(sign in "0123456789abcdef" for sign in cursor) or len(cursor) > 24:
        cursor = ""
    if asked:
        records, after = _found(asked, cursor)
    elif state == WAITS:
        records, after = store.waiting(limit=ROWS, cursor=cursor)
    else:
        records, after = store.page(state="" if state == ALL else state, limit=ROWS, cursor=cursor)
    counts = store.counts()
    shown = {str(one): count for one, count in counts.items()}
    shown |= {WAITS: sum(counts[one] for one in WAITING), ALL: sum(counts.values())}
    page = "rows" if request.args.get("part") == "list" else "messages"
    values = {"records": records, "state": state, "asked": asked, "after": after, "cursor": cursor}
    return render_template(f"operator/{page}.html", **values, counts=shown)


def _found(asked: str, cursor: str) -> tuple[list[Record], str | None]:
    """Return what a search finds: by id, Message-ID or thread exactly, else by words."""
    store = current().store
    if asked.startswith("<") and asked.endswith(">"):
        for by in ("message_id", "thread_id"):
            records, after = store.messages.page(limit=ROWS, cursor=cursor, **{by: asked})
            if records:
                return records, after
        ours = store.threads.by_our_ids([asked])
        return store.messages.load([id_ for _, id_ in ours.values()]), None
    if len(asked) == 24 and (records := store.messages.load([asked.lower()])):
        return records, None
    if asked.startswith("email:"):
        return store.messages.page(thread_id=asked, limit=ROWS, cursor=cursor)
    return store.messages.search(asked, limit=ROWS, cursor=cursor)


# --- one message -------------------------------------------------------------------------------------------


def message(id_: str) -> Response:
    record = current().store.messages.get(id_)
    if request.args.get("part") == "seen":  # operator.js asks whether it has moved on
        return Response(_seen(record), content_type="text/plain; charset=utf-8")
    return _message_page(record, done=request.args.get("done", ""))


def _told_as_done(record: Record, done: str, *, taken: bool) -> str:
    """Return the action that is said to be done, '' where any link may have said so."""
    true = {"takeover": taken, "handback": not taken, "retry": record.state in AT_WORK}
    return done if done in ACTIONS and (record.decided == done or true.get(done)) else ""


def _message_page(
    record: Record,
    status: int = 200,
    *,
    done: str = "",
    fault: str = "",
    typed: dict[str, str] | None = None,
    ask: str = "",
) -> Response:
    store = current().store
    said, before = conversation(store, record, request.args.get("before", ""))
    answer = kept_answer(store, record.id) if record.state is State.REVIEW else None
    taken = store.threads.person(record.thread_id)
    draft = store.drafts.get(record.id) if answer else None
    typed, seen = typed or {}, _seen(record)
    # What was typed for an answer that is no longer this one is shown, and not sent by a click.
    fits = typed.get("seen") == seen
    page = render_template(
        "operator/message.html",
        record=record,
        history=store.messages.history(record.id),
        said=said,
        before=before,
        answer=answer,
        edited=draft is not None and draft.edited,
        editable=len(record.answer_text) < REMEMBERED,
        body=typed.get("body", record.answer_text) if fits else record.answer_text,
        subject=typed.get("subject", "") if fits else answer.subject if answer else "",
        stale="" if fits and answer else typed.get("body", ""),
        taken=taken,
        actions=_offered(record, taken=taken is not None),
        seen=seen,
        done=_told_as_done(record, done, taken=taken is not None),
        fault=fault_in_words(status, fault) if fault else "",
        typed=typed,
        ask=ask,
        longest={True: text.SHOWN, False: text.BESIDE},
    )
    return Response(page, status)


def _offered(record: Record, *, taken: bool) -> list[str]:
    """Return what can be decided now, the most likely first."""
    hidden = {"approve", "takeover" if taken or record.ingress == LOGIN else "handback"}
    if record.with_person or record.data_ended_at or record.ingress in UNASKED - {"send", "workflow"}:
        hidden.add("release")
    found = [name for name, states in ACTIONS.items() if record.state in states and name not in hidden]
    if (record.state in AT_WORK and record.attempts) or (record.state is State.REPLIED and record.bounced):
        found.insert(0, "retry")
    if record.with_person and "handback" in found:
        found.sort(key="handback".__ne__)
    return found


def _seen(record: Record) -> str:
    """Return what a form was made for: another answer, or another state, is not what was decided about."""
    return f"{record.state} {record.reply_message_id}"


def decide(id_: str, action: str) -> AnyResponse:
    """Do what a person decided, or show what has become of the message meanwhile."""
    fields = g.fields
    record = current().store.messages.get(id_)
    if fields.get("seen") != _seen(record):
        if _is_done(record, action, fields):  # a second click
            return redirect(url_for("operator.message", id_=id_, done=action), 303)
        return _message_page(record, 409, fault=say("Meanwhile this message has moved on."), typed=fields)
    if action == "retry" and record.state is State.UNCERTAIN and not fields.get("sure"):
        question = say(
            "Nobody knows whether this answer arrived. Look first: sent again, it may arrive twice."
        )
        return _message_page(record, 409, fault=question, typed=fields, ask=action)
    given: dict[str, str | None] = {"reason": fields.get("reason", "")[:500]}
    try:
        if action == "approve":
            body, subject = _changed(record, fields)
            given = {"body": body, "subject": subject}
        DECISIONS[action](current().decisions, id_, by=g.visitor.name, **given)
    except (WrongState, InvalidField) as refused:
        status = 409 if isinstance(refused, WrongState) else 422
        now = current().store.messages.get(id_)
        return _message_page(now, status, fault=str(refused), typed=fields)
    return redirect(url_for("operator.message", id_=id_, done=action), 303)


def _is_done(record: Record, action: str, fields: dict[str, str]) -> bool:
    """Return whether just this was decided already."""
    same = "body" not in fields or fields["body"].strip() == record.answer_text.strip()
    return record.decided == action and (same or action != "approve")


def _changed(record: Record, fields: dict[str, str]) -> tuple[str | None, str | None]:
    """Return body and subject, each None where it is as it was."""
    body, subject = fields.get("body"), fields.get("subject")
    if body is not None and body.strip() == record.answer_text.replace("\r\n", "\n").strip():
        body = None
    if subject is not None:
        answer = kept_answer(current().store, record.id)
        if answer is None or subject.strip() == answer.subject.strip():
            subject = None
    return body, subject


def preview(id_: str) -> Response:
    """Show the edited answer as its readers will see it."""
    record = current().store.messages.get(id_)
    body, subject = _changed(record, g.fields)
    if record.state is not State.REVIEW:
        raise WrongState(say("Meanwhile this message has moved on."))
    return _framed(current().decisions.preview(id_, body=body, subject=subject).source)


def answer_as_sent(id_: str) -> Response:
    """Show the HTML of the kept answer."""
    record = current().store.messages.get(id_)
    answer = current().store.messages.answer(id_) if record.ingress != LOGIN else None
    if answer is None:
        raise NotFound(say("The answer is not kept any more."))
    return _framed(answer.source)


def _framed(source: bytes) -> Response:
    return Response(html_of(source), content_type="text/html; charset=utf-8")


# --- files -------------------------------------------------------------------------------------------------


def file(id_: str, which: str, number: int) -> Response:
    """Hand out an attachment: to be stored, never to be shown, whatever it says it is."""
    record = current().store.messages.get(id_)
    read = incoming if which == "mail" else kept_answer
    mail = read(current().store, id_) if record.ingress != LOGIN else None
    if mail is None or number >= len(mail.attachments):
        raise NotFound(say("This file is not kept any more."))
    return _download(mail.attachments[number])


def whole_text(id_: str) -> Response:
    """Hand out the whole text of a mail, which a page shows the beginning of."""
    record = current().store.messages.get(id_)
    mail = incoming(current().store, id_)
    whole = mail.full_text if mail else record.text
    return _download(AttachedFile(f"{id_}.txt", "text/plain", whole.encode("utf-8", "replace")))


def _download(found: AttachedFile) -> Response:
    response = Response(found.content, content_type=SAFE_TYPE)
    ascii_name = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in found.filename)
    named = f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(found.filename, safe='')}"
    response.headers["Content-Disposition"] = named
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


# --- health and figures ------------------------------------------------------------------------------------


def health() -> str:
    """Show whether mail flows, and the figures of the last days."""
    app, now = current(), current().clock()
    today = now // DAY_MS
    days = app.store.figures.read(range(today - DAYS + 1, today + 1))
    reasons = sum((day.reasons for day in days), Counter[tuple[str, str]]())
    return render_template(
        "operator/health.html",
        fault=why_not_ready(app, now),
        health=app.store.health.read(),
        settings=app.settings,
        now=now,
        memory=app.store.health.memory_share(),
        counts=app.store.messages.counts(),
        came=_came(days),
        waited=_waited(days),
        reasons=reasons.most_common(12),
        most=max(reasons.values(), default=1),
        bars=pictures.bars,
        dots=pictures.dots,
        scale=_SCALE,
        days=DAYS,
    )


def _came(days: list[DayFigures]) -> list[pictures.Row]:
    pairs = [(day, (day.arrived, day.answered)) for day in days]
    return [pictures.row(day, pair, (str(pair[0]), str(pair[1])), say("%d %b")) for day, pair in pairs]


def _waited(days: list[DayFigures]) -> list[pictures.Row]:
    pairs = [(day, (day.quantile_ms(0.5), day.quantile_ms(0.95))) for day in days]
    shown = [(span(a), span(b)) if a else ("–", "–") for _, (a, b) in pairs]
    both = zip(pairs, shown, strict=True)
    return [pictures.row(day, values, words, say("%d %b")) for (day, values), words in both]
