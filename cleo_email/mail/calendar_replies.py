"""Answers of calendars to an invitation: a click on *Accept*, and no words of a person.

A calendar answers with METHOD:REPLY, and proposes another time with METHOD:COUNTER (RFC 5546 sections 3.2.3
and 3.2.7). Such a mail is a person's only if the person wrote something beside it. What the programs put into
the text themselves speaks of the person ("Anna has accepted this invitation") and is no such thing; the first
person, a question and a note are. An invitation (METHOD:REQUEST) is mail like any other.
"""

from __future__ import annotations

import re
from typing import Final

from cleo_email.mail.header_values import MAX_VALUE
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.quote_blocks import is_blank
from cleo_email.mail.quote_marks import is_rule
from cleo_email.mail.subject import is_forward

_CALENDARS: Final = frozenset({"text/calendar", "application/ics"})
_HEAD: Final = 65_536  # bytes of a calendar; METHOD is a property of the whole and comes first
_MAX_PARTS: Final = 20
_MAX_LINES: Final = 200
_METHOD: Final = re.compile(
    rb"^METHOD(?:;[^:\r\n]{0,100})?:[ \t]{0,10}(REPLY|COUNTER)\b", re.IGNORECASE | re.MULTILINE
)
_PARAMETER: Final = re.compile(r";\s{0,10}method\s{0,10}=\s{0,10}\"?(reply|counter)\b", re.IGNORECASE)

_DETAILS: Final = re.compile(
    r"\s*\*?(?:when|where|what|who|title|subject|time|date|location|organizer|calendar|status|invitees"
    r"|wann|wo|was|wer|titel|betreff|zeit|datum|ort|organisator|kalender|teilnehmer"
    r"|quand|où|qui|titre|objet|lieu|date|cuándo|dónde|asunto|quando|dove|oggetto|wanneer|waar|onderwerp)"
    r"\*?\s?:",
    re.IGNORECASE,
)
_VERDICT: Final = re.compile(
    r"(?<!\w)(?:accept(?:ed|s|ance)|declin(?:ed|es)|tentative(?:ly)?|new time proposed"
    r"|proposed (?:a )?new time|will attend|will not attend|won.t attend|might attend"
    r"|zugesagt|zusage|abgesagt|absage|angenommen"
    r"|akzeptiert|abgelehnt|vorläufig|(?:mit|unter) vorbehalt|accepté|refusé|décliné|provisoire"
    r"|acept(?:ó|ado)|rechaz(?:ó|ado)|provisional|accettato|rifiutato|provvisorio"
    r"|geaccepteerd|geweigerd|afgewezen|voorlopig"
    r"|aceitou|aceite|recus(?:ou|ado)|zaakceptowa\w{0,6}|odrzuci\w{0,6}|wstępnie|accepterat|accepteret|afvist"
    r"|avböjt|godtatt|hyväksy\w{0,6}|přija\w{0,4}|kabul ed\w{0,8})(?!\w)",
    re.IGNORECASE,
)
_EVENT: Final = re.compile(
    r"invit|event|meeting|appointment|calendar|request|einladung|termin|besprechung|ereignis|veranstaltung"
    r"|kalender|réunion|événement|rendez-vous|reuni|evento|convite|riunione|uitnodiging|vergadering|afspraak"
    r"|gebeurtenis|zaprosz|spotkani|wydarzeni|möte|møde|møte|kokous|schůzk|toplantı|davet",
    re.IGNORECASE,
)
_FEW_WORDS: Final = 6
_PERSON: Final = re.compile(
    r"\?(?:\s|\Z)|(?<!\w)(?:i|i'm|i'll|we|my|me|us|ich|wir|mir|mich|uns|mein\w{0,2}|je|j'ai|nous|moi|yo|me"
    r"|io|mi"
    r"|ik|wij|mij|eu|ja|leider|unfortunately|malheureusement|sorry|danke|thanks|merci)(?!\w)",
    re.IGNORECASE,
)
_CLICKED: Final = re.compile(  # Zimbra's text for its buttons, in the first person
    r"\s*(?:yes, i will attend|no, i won.t attend|i might attend)\.?\s*\Z", re.IGNORECASE
)
_CLOSING: Final = re.compile(
    r"\s*(?:mit freundlichen grüßen|mit freundlichem gruß|freundliche grüße|viele grüße|beste grüße"
    r"|best regards|kind regards|regards|sincerely|cordialement|saludos|cordiali saluti"
    r"|met vriendelijke groet)[,.!]?\s*\Z",
    re.IGNORECASE,
)
_NOTE: Final = re.compile(
    r"(?<!\w)(?:note|comment|message|notiz|kommentar|anmerkung|commentaire|remarque|nota|commento|comentario)"
    r"s?\s?:",
    re.IGNORECASE,
)


def calendar_reply(mail: InboundEmail) -> str:
    """Why this is a calendar's answer that nobody wrote a word to, or an empty string."""
    method = _method(mail)
    if not method or is_forward(mail.subject) or _says_something(mail.text):
        return ""
    return f"A calendar entry with `METHOD:{method}`: the answer of a calendar, without words of a person."


def _method(mail: InboundEmail) -> str:
    if mail.content_type in _CALENDARS:
        for value in mail.header_all("content-type")[:2]:
            if named := _PARAMETER.search(value[:MAX_VALUE]):
                return named[1].upper()
    for attachment in mail.attachments[:_MAX_PARTS]:
        kind = attachment.content_type.partition(";")[0].strip().lower()
        if kind in _CALENDARS and (found := _METHOD.search(attachment.content[:_HEAD])):
            return found[1].decode("ascii").upper()
    return ""


def _says_something(text: str) -> bool:
    """Whether a person wrote ``text``, or any of it."""
    if text.lstrip().upper().startswith("BEGIN:VCALENDAR"):  # the entry itself, in a mail of nothing else
        return False
    lines = []
    for line in text.split("\n")[:_MAX_LINES]:
        if line.lstrip().startswith("*~*~"):  # below it stands the invitation
            break
        if not (is_blank(line) or is_rule(line) or _DETAILS.match(line[:100])):
            lines.append(line[:MAX_VALUE])
    return bool(lines) and not _is_generated(lines)


def _is_generated(lines: list[str]) -> bool:
    first = lines[0]
    if any(_NOTE.search(line) for line in lines[:3]):
        return False
    if _CLICKED.match(first):
        return len(lines) == 1
    if _CLOSING.match(first):
        return True  # a signature that the program adds, and nothing above it
    if _PERSON.search(first) or not _VERDICT.search(first):
        return False
    return _EVENT.search(first) is not None or len(first.split()) <= _FEW_WORDS
