"""Subject lines that a machine wrote: absence notes, automatic replies, challenges, read receipts, bounces.

A subject is weak evidence: "Abwesenheitsnotiz einrichten" is what people ask their IT team. The rule:

- A phrase must stand at the very start ("Re: Automatic reply" is a person who answers one).
- A clear phrase alone counts if the subject ends there or goes on as the programs do
  (``Abwesenheitsnotiz: …``, ``Out of Office Re: …``), unless what follows speaks of the phrase itself
  ("Out of office: can you switch mine on?") and the text does not read like an absence note.
- For a mail in answer to another one (In-Reply-To) less evidence is enough, as a person's answer would begin
  with ``Re:``: clear phrases count whatever follows, ambiguous ones if the subject goes on like a program's.
- An ambiguous phrase that is an everyday topic ("Holiday: two more rooms please") needs the text as well:
  one that is empty or reads like an absence note.

Where the two sides weigh the same, the mail is a machine's: an answer to a machine may come back for ever.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

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

# Talk about the function itself: how it is switched on and off.
_ITSELF: Final = re.compile(
    r"(?<!\w)(?:(?:stelle|richte|schalte)n? (?:ich|wir|man)|einrichte\w?|einzurichten|einstelle\w?"
    r"|einzustellen|(?:de)?aktiviere\w?|zu (?:de)?aktivieren|(?:aus|ab|ein|an)(?:zu)?schalten|funktioniert"
    r"|(?:rück)?fragen? (?:dazu|hierzu)|switch|turn (?:it |mine )?o(?:n|ff)|set ?up|enabl(?:e|ing)"
    r"|disabl(?:e|ing)|configur(?:e|ing|er|ar|are)|(?:de)?activat(?:e|ing)|(?:dés)?activer|(?:des)?activar"
    r"|(?:dis)?attivare|(?:doesn't|does not|not) work(?:ing)?|questions? about (?:it|this))(?!\w)"
)
# What absence notes and confirmations say, and nobody who wants something of us.
_NOTE: Final = re.compile(
    r"(?<!\w)(?:(?:i am|i'm|i will be) (?:currently |now )?(?:out (?:of (?:the )?office|until|from|today)"
    r"|away|unavailable|back|not in|on (?:vacation|holiday|leave|annual|parental|maternity|a business))"
    r"|i will return|limited access|no access to (?:my )?(?:e-?)?mail|urgent (?:matters|cases)|in urgent"
    r"|in case of emergency|this is an auto|automatically (?:generated|sent)|thank(?:s"
    r"| you) for (?:your (?:e-?mail|message)|contacting)|(?:ich )?bin (?:bis|vom|ab|derzeit|zurzeit|zur zeit"
    r"|momentan|aktuell|(?:im|in) (?:urlaub|elternzeit|mutterschutz)|weg|abwesend|ausser haus|(?:nicht"
    r"|wieder|erst) (?:da|im|am|ab|erreichbar|zu erreichen|wieder))|nicht im (?:büro|hause)|in dringenden"
    r"|dringende fälle|nicht weitergeleitet|meine vertretung|wenden sie sich|automatisch (?:erstellt|erzeugt"
    r"|generiert|versandt|versendet)|dank für ihre (?:nachricht|mail|e-mail|anfrage)|ihre nachricht (?:ist"
    r"|wurde)|je suis (?:actuellement )?absent|en congé|de retour le|estoy (?:fuera|de)|estaré fuera"
    r"|sono (?:assente|in ferie|fuori)|ik ben (?:afwezig|niet|tot|op)|jestem (?:na|nieobec)|estou (?:ausente"
    r"|de|fora)|jag är (?:inte|på|borta|ledig)|jeg er (?:ikke|på|bort))"
)


def fold(subject: str) -> str:
    """Return ``subject`` without case, width and spare blanks, cut to 500 characters.

    The dotted and the dotless i of Turkish become the plain one: "OTOMATİK YANIT" is "otomatik yanıt".
    """
    plain = unicodedata.normalize("NFKC", subject[: _MAX_SUBJECT * 2]).casefold()
    return " ".join(plain.replace("i\u0307", "i").replace("ı", "i").split())[:_MAX_SUBJECT]


def _phrases(lines: str) -> tuple[str, ...]:
    """Return the phrases of ``lines``, which ``|`` and line ends part, folded and the longest first."""
    folded = {fold(phrase) for phrase in lines.replace("\n", "|").split("|")} - {""}
    return tuple(sorted(folded, key=lambda phrase: (-len(phrase), phrase)))


# Whole or followed by a colon and the like, these count without further evidence.
_STRONG: Final = _phrases(
    """
    automatic reply|auto reply|auto-reply|autoreply|automated reply|automatic response|auto response
    auto-response|autoresponse|automated response|autoresponder|out of office|out of the office|out-of-office
    out of office autoreply|out of office auto-reply|out of office reply|out of office notification
    out of office message|ooo auto-reply|vacation reply|vacation notice|vacation message|away from the office
    i am out of the office|i'm out of the office
    automatische antwort|automatische rückantwort|automatische antwortnachricht|autom. antwort
    automatische abwesenheitsnotiz|automatische abwesenheitsnachricht|automatische empfangsbestätigung
    abwesenheitsnotiz|abwesenheitsnachricht|abwesenheitsbenachrichtigung
    abwesenheitsagent|abwesenheitsassistent|abwesenheits-notiz
    ich bin nicht im büro|ich bin derzeit nicht im büro
    réponse automatique|réponse automatisée|absence du bureau
    absent du bureau|absente du bureau
    respuesta automática|respuesta automatica|contestación automática|fuera de la oficina|fuera de oficina
    ausente de la oficina|resposta automática|resposta automatica|fora do escritório
    ausência do escritório
    risposta automatica|fuori ufficio|assente dall'ufficio
    automatisch antwoord|automatisch bericht|automatische reactie|niet aanwezig op kantoor|niet op kantoor
    afwezigheidsmelding|afwezigheidsbericht|afwezigheidsassistent
    automatiskt svar|autosvar|automatisk svar|automatisk svarsmeddelelse|frånvaromeddelande
    fraværsmelding|fraværsmeddelelse|fraværsbesked|ikke på kontoret|inte på kontoret
    automaattinen vastaus|poissaoloilmoitus|poissa toimistosta|sjálfvirkt svar
    odpowiedź automatyczna|automatyczna odpowiedź|autoodpowiedź|poza biurem|nieobecność w biurze
    automatická odpověď|automatická odpoveď|mimo kancelář|mimo kancelárie|automatikus válasz
    házon kívül|irodán kívül|răspuns automat|raspuns automat|în afara biroului
    automatski odgovor|samodejni odgovor|automatinis atsakymas|automātiskā atbilde|automaatvastus
    автоответ|автоматический ответ|автоматическая отправка|автоматична відповідь|автовідповідь
    автоматичен отговор|аутоматски одговор|αυτόματη απάντηση|εκτός γραφείου
    otomatik yanıt|otomatik cevap|ofis dışında|trả lời tự động|balasan otomatis|jawapan automatik
    自动回复|自動回覆|自动答复|自動應答|不在办公室|自動応答|自動返信|不在通知|不在のお知らせ|자동 회신
    자동응답|자동 응답|부재중|부재 중 자동 회신|ตอบกลับอัตโนมัติ|מענה אוטומטי|תשובה אוטומטית
    رد تلقائي|الرد التلقائي|स्वचालित उत्तर
    delivery status notification (failure)|delivery status notification (delay)
    undelivered mail returned to sender|mail delivery failed: returning message to sender
    returned mail: see transcript for details|mail delivery failure notice
    benachrichtigung zum übermittlungsstatus (fehlgeschlagen)
    """
)

# Ambiguous words: a person may begin a subject with them, but hardly end there while answering us. The topics
# are everyday ones as well: "Holiday: two more rooms", "Auto: neue Reifen".
_TOPICS: Final = _phrases(
    """
    auto|autom.|automatisch|urlaub|vacation|holiday|annual leave|elternzeit|mutterschutz|maternity leave
    parental leave|away|absence|vacaciones|férias|vakantie|ferie|loma|urlop|dovolená|szabadság|concediu|отпуск
    """
)
_WEAK: Final = _phrases(
    "|".join(_TOPICS)
    + """
    auto-antwort|abwesend|abwesenheit|abwesenheitsmeldung|abwesenheitsinfo|abwesenheitshinweis
    abwesenheitsmail|nicht im büro|nicht im hause|außer haus|in urlaub|im urlaub|ich bin im urlaub
    ich bin derzeit im urlaub|urlaubsnotiz|urlaubsmeldung|krankgemeldet|on vacation|on holiday|on leave
    away message|absence notice|out of town|away from my mail|ooo|absent|absente|absent(e)|je suis absent
    je suis absente|en congé|en vacances|avis d'absence|message d'absence|notification d'absence|assenza
    assente|in ferie|fuori sede|messaggio di assenza|ausente|ausencia|de vacaciones|mensaje de ausencia
    ausência|ausência temporária|mensagem de ausência|met verlof|afwezig|frånvaro|på semester|fravær
    ikke til stede|lomalla|nieobecny|nieobecna|nieobecność|odsoten|в отпуске|нет в офисе|外出
    read|not read|read receipt|gelesen|nicht gelesen|ungelesen|gelöscht|ungelesen gelöscht|no leído|non letto
    niet gelezen|oläst|ej läst|ulæst|ikke læst|ulest|ikke lest|não lida|nie przeczytano|nieprzeczytane
    nepřečteno|не прочтено|не прочитано|luettu|ei luettu|lesebestätigung|lesebestaetigung|lu|non lu|leído
    letto|lettura|gelezen|läst|læst|lest|przeczytane|přečteno|прочтено|прочитано|lida|return receipt
    receipt confirmation|disposition notification|eingangsbestätigung|empfangsbestätigung
    message confirmation required|sender verification|verification required
    """
)

# Whole sentences of programs; what follows them is their topic.
_SENTENCES: Final = _phrases(
    """
    thank you for contacting|thank you for your message|thank you for your email|thanks for contacting
    thanks for your message|thanks for your email|we have received your|we received your
    vielen dank für ihre nachricht|vielen dank für ihre anfrage|vielen dank für ihre e-mail
    vielen dank für ihre mail|danke für ihre nachricht|ihre nachricht ist eingegangen
    ihre anfrage ist eingegangen|wir haben ihre nachricht|merci pour votre message
    merci de votre message|nous avons bien reçu|your request has been received|please confirm your message
    please confirm your email
    please confirm your e-mail|confirm your email|confirm your message|please confirm (conf#
    your email requires verification|verify your email|bitte bestätigen sie ihre nachricht
    bitte bestätigen sie ihre e-mail|[tmda]
    """
)

# How bounces begin.
_BOUNCES: Final = _phrases(
    """
    undelivered mail|undeliverable|undeliverable mail|mail delivery fail|mail delivery system
    mail delivery status|mail delivery problem|delivery status notification|delivery failure
    delivery has failed|delivery notification|delivery report|failure notice|failure delivery|failed mail
    mail failure|mail failed|mail could not be delivered|mail system error|message delivery fail
    message not delivered|message undeliverable|message delayed|delayed mail|returned mail
    returned to sender|returned message|non-delivery|nondeliverable|non delivery|permanent delivery failure
    warning: could not send message|warning: message|unable to deliver|your message could not be delivered
    unzustellbar|nicht zugestellt|nicht zustellbar|zustellung fehlgeschlagen
    benachrichtigung zum übermittlungsstatus|benachrichtigung über zustellstatus|übermittlungsfehler
    fehler bei der zustellung|mailzustellung fehlgeschlagen|non remis|échec de la remise
    no se puede entregar|no se ha podido entregar|impossibile recapitare|niet bezorgd|onbestelbaar
    """
)

# Titles of ticket systems; a number or a topic of ours follows, never the rest of a sentence.
_TITLES: Final = _phrases("ticket received|ticket created|case created|request received")

# What Lotus Notes writes after the name of the absent person: "Max Mustermann ist außer Haus."
_ABSENT: Final = _phrases(
    """
    is out of the office|ist außer haus|ist nicht im büro|est absent(e)|está ausente
    está fuera de la oficina|è fuori ufficio|è assente|is afwezig|is niet aanwezig|är inte på kontoret
    er ikke til stede|jest poza biurem
    """
)

# What programs append in brackets: "Re: Offer [Automatic reply]".
_APPENDED: Final = _phrases(
    """
    automatic reply|auto reply|auto-reply|autoreply|automated reply|automatic response|auto response
    auto-response
    autoresponse|automated response|automatische antwort|auto-antwort|réponse automatique|respuesta automática
    resposta automática|risposta automatica|automatisch antwoord|autosvar|automatiskt svar|automatisk svar
    odpowiedź automatyczna|verification required|sender verification|email verification|auto-generated
    """
)


def is_automatic_subject(subject: str, *, is_reply: bool, text: str = "") -> bool:
    """Return whether ``subject`` is a machine's.

    ``is_reply``: the mail has In-Reply-To. ``text``: what the sender wrote.
    """
    line = fold(subject)
    begin = line.lstrip(_OPENING)
    return (
        any(is_reply or _is_alone(rest, text) for _, rest in _begun(_STRONG, begin))
        or _absent_person(line, is_reply=is_reply)
        or (is_reply and _in_answer(line, begin, text))
    )


def _begun(phrases: Iterable[str], line: str) -> Iterator[tuple[str, str]]:
    """Yield each phrase with which ``line`` begins, and what follows it."""
    return ((phrase, line[len(phrase) :]) for phrase in phrases if line.startswith(phrase))


def _in_answer(line: str, begin: str, text: str) -> bool:
    """Return whether there is a phrase that counts in answer to a mail only."""
    return (
        any(
            _ends_like_a_program(rest) and not (phrase in _TOPICS and _is_a_topic(rest, text))
            for phrase, rest in _begun(_WEAK, begin)
        )
        or any(_ends_like_a_title(rest) for _, rest in _begun(_TITLES, begin))
        or begin.startswith((*_SENTENCES, *_BOUNCES))
        or _is_appended(line)
    )


def _is_alone(rest: str, text: str) -> bool:
    """Return whether a clear phrase counts without further evidence, by what follows it."""
    if not _ends_like_a_program(rest):
        return False
    return _ITSELF.search(rest) is None or _reads_like_a_note(text)


def _is_a_topic(rest: str, text: str) -> bool:
    """Return whether a person writes about holidays or cars: ``rest`` and ``text`` are no absence note's."""
    named = rest.lstrip().lstrip(":-–—−|.! ")
    if not named or named == rest.lstrip() or _MARKS.match(named):
        return False
    return bool(text.strip()) and not _reads_like_a_note(text)


def _reads_like_a_note(text: str) -> bool:
    return _NOTE.search(" ".join(text[:_MAX_TEXT].casefold().split())) is not None


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
    for phrase in _ABSENT:
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
    return bool(opening) and line[:-1].rpartition(opening)[2].strip() in _APPENDED


def is_bounce_subject(subject: str) -> bool:
    """Return whether ``subject`` begins like a bounce's; a person's answer or forward begins with ``Re:``."""
    return fold(subject).lstrip(_OPENING).startswith(_BOUNCES)


def mentions_bounce(subject: str) -> bool:
    """Return whether such words stand anywhere in ``subject``: "mx1.example.net Mail delivery failed : …"."""
    text = fold(subject)
    return any(phrase in text for phrase in _BOUNCES)
