"""Detect automatic mail: replies, lists, bulk mail, challenges, programs, calendars, unread mailboxes.

Unlike bounces (``reports.report_mark``), an operator may want such mail from a robot that they name.

A subject is weak evidence: "Abwesenheitsnotiz einrichten" is what people ask their IT team. The rule:

- A phrase must stand at the very start ("Re: Automatic reply" is a person who answers one).
- A clear phrase alone counts if the subject ends there or goes on as the programs do
  (``Abwesenheitsnotiz: …``, ``Out of Office Re: …``), unless what follows speaks of the phrase itself
  ("Out of office: can you switch mine on?") and the text does not read like an absence note.
- For a mail in answer to another one (In-Reply-To) less evidence is enough, as a person's answer would begin
  with ``Re:``: clear phrases always count, ambiguous ones if the subject goes on like a program's.
- An ambiguous phrase that is an everyday topic ("Holiday: two more rooms please") needs the text as well:
  one that is empty or reads like an absence note.

Where the two sides weigh the same, the mail is a machine's: an answer to a machine may come back for ever.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from cleo_email.mail.address import local_part
from cleo_email.mail.headers import MAX_VALUE, keyword, quoted
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.quotes import is_blank, is_rule
from cleo_email.mail.thread import is_forward, is_reply

_MAX_SUBJECT: Final = 500
_MAX_TEXT: Final = 1500  # characters of the text that are looked at
_MAX_NAME: Final = 60  # characters of a name, and how many words it may have
_MAX_NAME_WORDS: Final = 6

# Words of programs after a phrase; a person goes on differently ("… einrichten", "… process").
_NEXT_WORDS: Final = frozenset(
    ("re", "aw", "until", "till", "bis", "from", "von", "vom", "ab", "jusqu'au", "hasta", "fino", "tot")
)
# Marks of the mail that the program answers. They carry a colon, and a topic of ours follows.
_MARKS: Final = re.compile(r"(?:re|aw|antw|sv|vs|r|rif|res|ref|odp|ynt|rv|tr|wg|fwd?)\s?:")
_DELIMITERS: Final = frozenset("-–—−(|[{<>=*~.!])\"'«»„“”【（、。")
_OPENING: Final = "[(*<\"'„“«【（~ "
_BRACKETS: Final = {")": "(", "]": "[", ">": "<", "）": "（", "】": "【"}


def fold(subject: str) -> str:
    """Return ``subject`` without case, width and spare blanks, cut to 500 characters.

    The dotted and the dotless i of Turkish become the plain one: "OTOMATİK YANIT" is "otomatik yanıt".
    """
    plain = unicodedata.normalize("NFKC", subject[: _MAX_SUBJECT * 2]).casefold()
    return " ".join(plain.replace("i\u0307", "i").replace("ı", "i").split())[:_MAX_SUBJECT]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("phrases.toml").read_text("utf-8"))


@cache
def pattern(name: str) -> re.Pattern[str]:
    spec = _data()["pattern"][name]
    form = spec["form"].replace("\n", "")
    return re.compile(form.replace("…", spec["any"].strip("\n").replace("\n", "|")), re.IGNORECASE)


@cache
def _phrases(name: str) -> tuple[str, ...]:
    """Return the phrases of a list in phrases.toml, folded, the longest first."""
    lists = _data()
    lines = lists[name] + ("|" + lists["topics"] if name == "weak" else "")
    folded = {fold(phrase) for phrase in lines.replace("\n", "|").split("|")} - {""}
    return tuple(sorted(folded, key=lambda phrase: (-len(phrase), phrase)))


def is_automatic_subject(mail: InboundEmail) -> bool:
    """Return whether the subject is a machine's."""
    line, is_reply = fold(mail.subject), bool(mail.in_reply_to)
    begin = line.lstrip(_OPENING)
    return (
        any(is_reply or _is_alone(rest, mail) for _, rest in _begun(_phrases("strong"), begin))
        or _absent_person(line, is_reply=is_reply)
        or (is_reply and _in_answer(line, begin, mail))
    )


def _begun(phrases: tuple[str, ...], line: str) -> Iterator[tuple[str, str]]:
    """Yield each phrase with which ``line`` begins, and the rest of the line."""
    if not line.startswith(phrases):  # all at once: nearly every line begins with none
        return iter(())
    return ((phrase, line[len(phrase) :]) for phrase in phrases if line.startswith(phrase))


def _in_answer(line: str, begin: str, mail: InboundEmail) -> bool:
    """Return whether there is a phrase that counts in answer to a mail only."""
    return (
        any(
            _ends_like_a_program(rest) and not (phrase in _phrases("topics") and _is_a_topic(rest, mail))
            for phrase, rest in _begun(_phrases("weak"), begin)
        )
        or any(_ends_like_a_title(rest) for _, rest in _begun(_phrases("titles"), begin))
        or begin.startswith((*_phrases("sentences"), *_phrases("bounces")))
        or _is_appended(line)
    )


def _is_alone(rest: str, mail: InboundEmail) -> bool:
    """Return whether a clear phrase counts without further evidence, by what follows it."""
    if not _ends_like_a_program(rest):
        return False
    return pattern("itself").search(rest) is None or _reads_like_a_note(mail.text)


def _is_a_topic(rest: str, mail: InboundEmail) -> bool:
    """Return whether a person writes about holidays or cars: ``rest`` and the text are no absence note's."""
    named = rest.lstrip().lstrip(":-–—−|.! ")
    if not named or named == rest.lstrip() or _MARKS.match(named):
        return False
    return bool(mail.text.strip()) and not _reads_like_a_note(mail.text)


def _reads_like_a_note(text: str) -> bool:
    return pattern("absence_note").search(" ".join(text[:_MAX_TEXT].casefold().split())) is not None


def _ends_like_a_program(rest: str) -> bool:
    stripped = rest.lstrip()
    if not stripped or stripped[0] == ":":
        return True
    if rest != stripped and _MARKS.match(stripped):
        return True
    if "?" in stripped:  # "Out of office - how do I set it up?"
        return False
    return stripped[0] in _DELIMITERS or (rest != stripped and stripped.split(" ", 1)[0] in _NEXT_WORDS)


def _ends_like_a_title(rest: str) -> bool:
    stripped = rest.lstrip()
    return not stripped or stripped[0] in ":#" or stripped[0] in _DELIMITERS or stripped[0].isdigit()


def _absent_person(line: str, *, is_reply: bool) -> bool:
    """Find ``Max Mustermann ist außer Haus.``, by Notes: a name, and a full stop or a date at the end."""
    for phrase in _phrases("absent"):
        name, found, rest = line.partition(f" {phrase}")
        if not found or len(name) > _MAX_NAME or not 0 < len(name.split()) <= _MAX_NAME_WORDS:
            continue
        if ":" in name.removeprefix("auto:") or "?" in line:
            continue
        dated = rest.startswith(" (") and rest.rstrip(".").endswith(")")
        if rest == "." or dated or (is_reply and not rest):
            return True
    return False


def _is_appended(line: str) -> bool:
    """Find ``Re: Offer [Automatic reply]``, ``Re: Offer (verification required)``."""
    opening = _BRACKETS.get(line[-1:], "")
    return bool(opening) and line[:-1].rpartition(opening)[2].strip() in _phrases("appended")


def is_bounce_subject(subject: str) -> bool:
    """Return whether ``subject`` begins like a bounce's; a person's answer or forward begins with ``Re:``."""
    return fold(subject).lstrip(_OPENING).startswith(_phrases("bounces"))


def mentions_bounce(subject: str) -> bool:
    """Return whether such words stand anywhere in ``subject``: "mx1.example.net Mail delivery failed : …"."""
    text = fold(subject)
    return any(phrase in text for phrase in _phrases("bounces"))


_MAX_MAILBOXES: Final = 50  # of one header; a mail with more than one From mailbox is held anyway

_AUTOREPLY: Final = "an automatic reply"
_BULK: Final = "bulk or automatic mail"
_CHALLENGE: Final = "a challenge of a spam filter"


def _raw(value: str) -> str:
    return value[:MAX_VALUE].lower()


# "X-Autoreply: no" is written by some; CommuniGate marks what its rules hand on, though a person wrote it
# ("X-Autogenerated: Mirror"). Any other value says that a machine did.
_NOT_NO: Final = r"(?!(?:no|false|0|mirror|forward|redirect)\Z).*"
# A pattern for a header's name, what is read of it, a pattern for that, what it shows, whether a list's mail
# has it too.
# Programs also carry what people write (an agent's mail in Salesforce): the value tells the two apart.
_HEADERS: Final[Sequence[tuple[str, Callable[[str], str], str, str, bool]]] = (
    ("auto-submitted", keyword, r"(?!no\Z).*", "a machine sent this", False),
    (r"x-auto-?(?:reply|respond(?:er)?|response|generated)(?:-from)?", keyword, _NOT_NO, _AUTOREPLY, False),
    ("x-(?:mail-autoreply|fc-machinegenerated|away-message|vacation)", keyword, _NOT_NO, _AUTOREPLY, False),
    ("delivered-to", keyword, "<?autoresponder(?:@.*)?", _AUTOREPLY, False),
    ("x-post-messageclass", _raw, ".*autoresponder.*", _AUTOREPLY, False),
    ("x-loop(?:-detect)?", _raw, ".*", "a guard against mail loops", False),
    ("list-.*|(?:x-)?mailing-?list|x-beenthere|x-mailman-version", _raw, ".*", "mail of a list", True),
    ("(?:x-)?precedence", keyword, "list", _BULK, True),
    ("(?:x-)?precedence", keyword, "bulk|junk|auto[-_ ]?reply", _BULK, False),
    ("x-(?:askversion|boxbe-challenge|tmda-confirm)", _raw, ".*", _CHALLENGE, False),
    ("x-(?:challenge(?:response)?|confirmation-challenge)", _raw, ".*", _CHALLENGE, False),
    ("x-cron-env", _raw, ".*", "the output of a scheduled job", False),
    ("rt-ticket", _raw, ".*", "mail of a ticket system", False),
    ("managed-by", keyword, "rt .*", "mail of a ticket system", False),
    ("x-sfdc-emailcategory", _raw, ".*(?:workflow|auto-?response|massmail).*", "a workflow sent this", False),
)
_ANY_OF_THEM: Final = re.compile("|".join(f"(?:{title})" for title, *_ in _HEADERS))
# Challenge-response systems ("confirm that you are human").
_REACTION: Final = "text/vnd.google.email-reaction"
_CHALLENGE_DOMAINS: Final = ("@boxbe.com", "@notify.boxbe.com", "@spamarrest.com", "@mailinblack.com")
_TMDA: Final = re.compile(r"\S*-confirm[-+.][0-9]")  # local parts such as joe-confirm-1183.abc
_RULES: Final = "x-ms-exchange-generated-message-source"
_RULES_LOOP: Final = "x-ms-exchange-inbox-rules-loop"

_SEPARATORS: Final = re.compile(r"[^a-z0-9\u0080-\U0010ffff]")
_MAX_WORDS: Final = 50  # of a local part
_RUN: Final = 4  # words of which such a name is put together: "ne pas repondre"
# The name of a program may follow these: "noreplyshop", "donotreplyservice".
_BEGINNINGS: Final = ("noreply", "donotreply", "dontreply")


def robot_mark(mail: InboundEmail, *, list_is_wanted: bool = False) -> str:
    """Return why a machine wrote this, or ''. ``list_is_wanted``: marks of lists do not count."""
    return next(_marks(mail, list_is_wanted), "")


def _marks(mail: InboundEmail, list_is_wanted: bool) -> Iterator[str]:
    """Yield one sentence for each mark, which names the header."""
    headers = [(name, value) for name, value in mail.headers if _ANY_OF_THEM.fullmatch(name)]
    for title, read, wanted, shows, of_lists in _HEADERS:
        for name, value in headers:
            counts = re.fullmatch(title, name) and not (of_lists and list_is_wanted)
            if counts and re.fullmatch(wanted, read(value), re.DOTALL):
                yield f"{quoted(name, value)}: {shows}."
    for address in mail.from_[:_MAX_MAILBOXES]:
        lower = address.addr.strip()[-MAX_VALUE:].lower()
        if lower.endswith(_CHALLENGE_DOMAINS) or _TMDA.match(local_part(lower)):
            yield f"{quoted('From', address.addr)}: {_CHALLENGE}."
    for value in mail.header_all(_RULES):
        if keyword(value) == "mailbox rules agent" and _is_rules_own(mail):
            yield f"{quoted(_RULES, value)}: a mailbox rule wrote this."
    if is_automatic_subject(mail):
        more = " and an `In-Reply-To`" if mail.in_reply_to else ""
        yield f"{quoted('Subject', mail.subject)}{more}: an automatic reply."
    if any(kind.startswith(_REACTION) for kind in mail.attached_types):
        yield "A reaction to a mail (Gmail), without words of a person."
    elif mail.in_reply_to and _is_reaction(mail.text[:_MAX_TEXT].strip()):
        yield "A reaction to a mail, as Outlook sends it, without words of a person."
    if (method := _method(mail)) and _is_a_click(mail):
        yield f"A calendar entry with `METHOD:{method}`: the answer of a calendar, without words of a person."
    # Contact forms write from such a mailbox as well, and name the customer's in Reply-To.
    if all(_is_no_reply(one.addr) for one in mail.reply_to[:_MAX_MAILBOXES]):
        for address in mail.from_[:_MAX_MAILBOXES]:
            if _is_no_reply(address.addr):
                yield f"{quoted('From', address.addr)}: a mailbox that nobody reads."


def _is_reaction(text: str) -> bool:
    """Return whether the first line that has a letter says so: the emoji of a reaction stands above."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if any(map(str.isalpha, line))), 0)
    words = "\n".join(lines[first:])
    return bool(pattern("reaction").match(words) or pattern("tapback").fullmatch(words))


def _is_no_reply(address: str) -> bool:
    """Return whether words of the local part say so, as in ``shop-no_reply+12``; parts of words do not."""
    words = [word.strip("0123456789") for word in _SEPARATORS.split(local_part(address))[:_MAX_WORDS]]
    if any(word.startswith(_BEGINNINGS) for word in words[:1]):
        return True
    runs = ("".join(words[at : at + count]) for at in range(len(words)) for count in range(1, _RUN + 1))
    return any(map(pattern("nobody_reads").fullmatch, runs))


def _is_rules_own(mail: InboundEmail) -> bool:
    """Return whether a mailbox rule of Exchange answered by itself; what it redirects is a person's mail.

    The rule's loop mark names the mailbox whose rule it is. An answer comes from that very mailbox; a
    redirected mail keeps its author. Without that mark an answer shows by its own subject in answer to our
    mail, or by the header that keeps others from answering it. What a rule forwards carries a person's mail.
    """
    if is_forward(mail.subject):
        return False
    if mailboxes := mail.header_all(_RULES_LOOP):
        sender = mail.from_address.strip().lower()
        return any(value.strip().strip("<>").lower() == sender for value in mailboxes)
    if mail.header("x-auto-response-suppress"):
        return True
    return bool(mail.in_reply_to) and not is_reply(mail.subject)


# --- calendars ----------------------------------------------------------------------------------------------

_CALENDARS: Final = frozenset({"text/calendar", "application/ics"})
_HEAD: Final = 65_536  # bytes of a calendar; METHOD is a property of the whole and comes first
_MAX_PARTS: Final = 20
_MAX_LINES: Final = 200
_METHOD: Final = re.compile(
    rb"^METHOD(?:;[^:\r\n]{0,100})?:[ \t]{0,10}(REPLY|COUNTER)\b", re.IGNORECASE | re.MULTILINE
)
_PARAMETER: Final = re.compile(r";\s{0,10}method\s{0,10}=\s{0,10}\"?(reply|counter)\b", re.IGNORECASE)
_FEW_WORDS: Final = 6
_CLICKED: Final = re.compile(  # Zimbra's text for its buttons, in the first person
    r"\s*(?:yes, i will attend|no, i won.t attend|i might attend)\.?\s*\Z", re.IGNORECASE
)


def _is_a_click(mail: InboundEmail) -> bool:
    """Return whether the answer of a calendar is a click on *Accept*, without words of a person.

    A calendar answers with METHOD:REPLY, and proposes another time with METHOD:COUNTER (RFC 5546 sections
    3.2.3 and 3.2.7). The mail is a person's only if the person wrote something beside it: the first person,
    a question, a note. What the programs write speaks of the person ("Anna has accepted this invitation").
    An invitation (METHOD:REQUEST) is mail like any other.
    """
    if is_forward(mail.subject):
        return False
    if mail.text.lstrip().upper().startswith("BEGIN:VCALENDAR"):  # the entry is the mail
        return True
    lines = []
    for line in mail.text.split("\n")[:_MAX_LINES]:
        if line.lstrip().startswith("*~*~"):  # below it stands the invitation
            break
        if not (is_blank(line) or is_rule(line) or pattern("calendar_details").match(line[:100])):
            lines.append(line[:MAX_VALUE])
    return not lines or _is_generated(lines)


def _method(mail: InboundEmail) -> str:
    """Return REPLY or COUNTER where the mail is, or carries, the answer of a calendar."""
    if mail.content_type in _CALENDARS:
        for value in mail.header_all("content-type")[:2]:
            if named := _PARAMETER.search(value[:MAX_VALUE]):
                return named[1].upper()
    if not any(map(_is_calendar, mail.attached_types)):
        return ""
    for attachment in mail.attachments[:_MAX_PARTS]:
        if _is_calendar(attachment.content_type) and (found := _METHOD.search(attachment.content[:_HEAD])):
            return found[1].decode("ascii").upper()
    return ""


def _is_calendar(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in _CALENDARS


def _is_generated(lines: list[str]) -> bool:
    first = lines[0]
    if any(pattern("comment").search(line) for line in lines[:3]):
        return False
    if _CLICKED.match(first):
        return len(lines) == 1
    if pattern("closing").match(first):
        return True  # a signature that the program adds, and nothing above it
    if pattern("person").search(first) or not pattern("calendar_verdict").search(first):
        return False
    return pattern("calendar_event").search(first) is not None or len(first.split()) <= _FEW_WORDS
