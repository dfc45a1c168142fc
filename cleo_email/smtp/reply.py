"""One reply of an SMTP server, and whom a refusal is about: the login, the account, or this mail alone.

The code does not tell: 550 is said of an unknown recipient and of an account that has sent too much today. A
limit of the account passes and concerns every mail, while a mail or recipient that is refused stays refused.
"""

import re
from typing import Final, NamedTuple

_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})  # RFC 4954 section 6
_ENHANCED: Final = re.compile(r"#?([45]\.\d{1,3}\.\d{1,3})\b")
_NAME: Final = re.compile(r"https?://\S+|(?<![\w@.-])[\w-]{1,63}(?:\.[\w-]{1,63}){1,20}(?![\w@-])")
# Of Google (5.4.5) and of Microsoft: daily limits, and senders that are blocked for what they sent.
_ACCOUNT_STATUS: Final = frozenset("5.4.5 4.4.5 5.1.90 5.7.501 5.7.502 5.7.503 5.7.705".split())

# The recipient's mailbox, account or limit, and what the mail is made of: never a limit of ours.
_OF_ANOTHER: Final = re.compile(
    r"(?:user|account|address|person|recipient) (?:that )?you (?:are|were|have) (?:trying|tried)"
    r"|you tried to reach"
    r"|\b(?:mail|in)box\b(?: \S+){0,3}? (?:is |has |was )?(?:full|over|exceed|quota)"
    r"|\bover(?:the |its |his |their )?\W?(?:disk ?)?quota|disk (?:quota|space)|\bstorage\b"
    r"|(?:the|this|that|intended) recipient\b|recipient(?:'s|s')? (?:\S+@\S|<|account|mailbox|inbox|server)"
    r"|recipient(?:'s|s')? (?:has|is|was) |\b(?:bad|invalid|unknown|unverified) recipients"
    r"|\bsize\b|too (?:large|big|long)|\b(?:bytes|octets|[kmg]i?b)\b|\bhops?\b|received headers|\bloop"
    r"|postfach\b.{0,40}\b(?:voll|überfüllt|erschöpft)|speicherplatz|empfängers?\b.{0,60}\b(?:limit|voll)"
    r"|\b(?:attachments?|links?|mime|headers?|parts?|nesting|lines?|score|probability|time-?out|anhänge)\b"
    r"|spam.{0,3}\b(?:threshold|level|limit|points|schwelle)|\bgr(?:ö|oe)sse|zu gross|tamaño|taille|dimension"
)
# What is sent, or sent in a time …
_SENDING: Final = (
    r"\b(?:send(?:ing|er|ers|s)?|sent|submi(?:t|ssion)\w*|out(?:going|bound)|relay\w*|messag\w+|e-?mails?|mails?"
    r"|smtp|deliver\w+|recipients|traffic|tenant|policy|daily|hourly|monthly|hour|day|per (?:minute|month)"
    r"|versand\w*|sende\w*|ausgehend\w*|nachrichten|täglich\w*|stündlich\w*|pro (?:tag|stunde|minute)"
    r"|envois?|envíos?|invio|diari\w+|giornalier\w+|отправ\w+)"
)
# … a measure of it …
_MEASURE: Final = (
    r"\b(?:limit(?:s|e|ed|ation|ations)?|quotas?|rates?|threshold|maximum|max(?:imal\w*)?|allowance|too many"
    r"|exceed\w*|credits|anzahl|zu viele|kontingent|límite|лимит\w*)"
)
_LIMIT: Final = re.compile(
    rf"{_SENDING}.{{0,80}}?{_MEASURE}|{_MEASURE}.{{0,60}}?{_SENDING}"
    r"|\b(?:limit|quota|threshold)\w* (?:has been |was |is )?(?:exceeded|reached)"
    r"|\btoo much e?-?mail|\brate.?limit|\bthrottl|frequency.{0,20}limit"
    r"|(?:versand|sende|tages|stunden|mail|nachrichten)-?(?:limit|kontingent|quota)"
    r"|(?:limit|kontingent)\w*\b.{0,40}\b(?:erreicht|überschritten)|频率|发送.{0,10}(?:超|限)"
)
# … and that it is full: a maximum alone may be of anything.
_FULL: Final = re.compile(
    r"exceed|reach|over\b|too (?:many|much|fast|quickly)|\blimit(?:ed)?\b|throttl|\bhit\b|out of|used up"
    r"|überschritten|erreicht|zu viele|schöpft|dépass|atteint|superad|alcanzad|superat|raggiunt|превыш|频率"
    r"|超"
)
_BLOCKED: Final = re.compile(
    r"suspended (?:for|due|because|from|until)|outbound ?spam|bad outbound sender|banned send"
    r"|(?:unusual|suspicious) (?:sending |e?-?mail |account )?(?:activity|rate|volume)"
    r"|(?:your|sender(?:'s)?|sending) (?:e-?mail )?(?:account|domain|privileges?|rights?)\b.{0,40}\b"
    r"(?:suspend|block|disabled|locked|limited|restrict|deactivat)"
    r"|you (?:are|have been|were) (?:temporarily )?(?:suspended|blocked|banned|restricted)"
    r"|(?:sending|(?:outgoing|outbound) e?-?mail|smtp (?:access|service)) (?:from .{1,40} )?"
    r"(?:is |has been |was )?(?:temporarily )?(?:suspend|disabled|blocked|restrict|paused)"
    r"|(?:ihr|absender)\w*\b.{0,80}\b(?:gesperrt|eingeschränkt|deaktiviert|blockiert)"
)
# Before a recipient was named these can only be about the sender.
_SENDERS_ACCOUNT: Final = re.compile(
    r"\b(?:account|user|domain|konto)\b.{0,40}\b(?:suspend|blocked|disabled|locked|deactivated|gesperrt)"
)
_MANY_RECIPIENTS: Final = re.compile(r"too many (?!bad|invalid|unknown)\w*\s?recipients|zu viele empfänger")
_IN_A_TIME: Final = re.compile(r"daily|hour|\bday|today|minute|heute|pro (?:tag|stunde)")


class Reply(NamedTuple):
    """One reply (RFC 5321 section 4.2); ``text`` has a line for each line of it."""

    code: int
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    @property
    def status(self) -> str:
        """Return the enhanced status code (RFC 3463), or ''."""
        found = _ENHANCED.match(self.text.lstrip())
        return found[1] if found else ""

    @property
    def is_of_login(self) -> bool:
        """Return whether it says that nobody is logged in, or not as the server wants, at whatever stage."""
        return self.code in _LOGIN_CODES

    @property
    def has_many_recipients(self) -> bool:
        """Return whether the mail has too many: the rest goes with another (RFC 5321 section 4.5.3.1.10)."""
        many = self.status in ("4.5.3", "5.5.3") or _MANY_RECIPIENTS.search(self._words) is not None
        return many and not _IN_A_TIME.search(self._words)

    def is_limit(self, *, of_recipient: bool = False) -> bool:
        """Return whether it is a limit of the account, which passes, and not about the mail or a recipient.

        ``of_recipient``: a recipient was named, who may be the one that is blocked.
        """
        words = self._words
        if self.code < 400 or self.is_of_login or self.has_many_recipients:
            return False
        if self.status in _ACCOUNT_STATUS:
            return True
        if _OF_ANOTHER.search(words):
            return False
        if _BLOCKED.search(words) or (not of_recipient and _SENDERS_ACCOUNT.search(words)):
            return True
        return _LIMIT.search(words) is not None and _FULL.search(words) is not None

    @property
    def _words(self) -> str:
        # The code is repeated on each line, and a name such as mail.example.com says nothing.
        text = _NAME.sub(" ", _ENHANCED.sub(" ", self.text[:2000])).casefold().replace("’", "'")
        return " ".join(text.split())

    def __str__(self) -> str:
        return f"{self.code} {self.text}"
