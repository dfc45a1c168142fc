"""Subject lines that a machine wrote: absence notes, automatic replies, challenges, read receipts, bounces.

A subject is weak evidence: "Abwesenheitsnotiz einrichten" is what people ask their IT team. So a phrase must
stand at the very start ("Re: Automatic reply" is a person who answers one), and alone it counts only if the
subject ends there or goes on as the programs do (``Abwesenheitsnotiz: …``, ``Out of Office until …``).
"""

from __future__ import annotations

import unicodedata

_MAX_SUBJECT = 500

# Whole or followed by a colon and the like, these count without further evidence.
STRONG = tuple(
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
    """.replace("\n", "|").split("|")
)

# Ambiguous words: a person may begin a subject with them, but hardly end there while answering us.
WEAK = tuple(
    """
    auto|autom.|automatisch|auto-antwort|abwesend|abwesenheit|abwesenheitsmeldung|abwesenheitsinfo
    abwesenheitshinweis|abwesenheitsmail|nicht im büro|nicht im hause|außer haus|ausser haus|urlaub|in urlaub
    im urlaub|ich bin im urlaub|ich bin derzeit im urlaub|urlaubsnotiz|urlaubsmeldung|elternzeit|mutterschutz
    krankgemeldet|vacation|on vacation|holiday|on holiday|annual leave|on leave|maternity leave
    parental leave|away|away message|absence notice|out of town|away from my mail|absence|ooo
    absent|absente|absent(e)|je suis absent|je suis absente|en congé|en vacances|avis d'absence
    message d'absence|notification d'absence|assenza|assente|in ferie|fuori sede|messaggio di assenza
    ausente|ausencia|de vacaciones|vacaciones|mensaje de ausencia|ausência|ausência temporária|férias
    mensagem de ausência|vakantie|met verlof|afwezig|frånvaro|på semester|fravær|ikke til stede|ferie|loma
    lomalla|urlop|nieobecny|dovolená|szabadság|concediu|odsoten|отпуск|в отпуске|нет в офисе|外出
    read|not read|read receipt|gelesen|ungelesen|gelöscht|lesebestätigung|lesebestaetigung|lu|non lu|leído
    letto|lettura|gelezen|läst|læst|lest|przeczytane|přečteno|прочтено|прочитано|lida|return receipt
    receipt confirmation|disposition notification|eingangsbestätigung|empfangsbestätigung
    message confirmation required|sender verification|verification required
    """.replace("\n", "|").split("|")
)

# Whole sentences of programs; what follows them is their topic.
SENTENCES = tuple(
    """
    thank you for contacting|thank you for your message|thank you for your email|thanks for contacting
    thanks for your message|thanks for your email|we have received your|we received your
    vielen dank für ihre nachricht|vielen dank für ihre anfrage|vielen dank für ihre e-mail
    vielen dank für ihre mail|danke für ihre nachricht|ihre nachricht ist eingegangen
    ihre anfrage ist eingegangen|wir haben ihre nachricht|merci pour votre message
    merci de votre message|nous avons bien reçu|ticket received|ticket created|case created
    request received|your request has been received|please confirm your message|please confirm your email
    please confirm your e-mail|confirm your email|confirm your message|please confirm (conf#
    your email requires verification|verify your email|bitte bestätigen sie ihre nachricht
    bitte bestätigen sie ihre e-mail|[tmda]
    """.replace("\n", "|").split("|")
)

# How bounces begin.
_BOUNCES = (
    "undelivered mail",
    "undeliverable",
    "undeliverable mail",
    "mail delivery fail",
    "mail delivery system",
    "mail delivery status",
    "mail delivery problem",
    "delivery status notification",
    "delivery failure",
    "delivery has failed",
    "delivery notification",
    "delivery report",
    "failure notice",
    "failure delivery",
    "failed mail",
    "mail failure",
    "mail failed",
    "mail could not be delivered",
    "mail system error",
    "message delivery fail",
    "message not delivered",
    "message undeliverable",
    "message delayed",
    "delayed mail",
    "returned mail",
    "returned to sender",
    "returned message",
    "non-delivery",
    "nondeliverable",
    "non delivery",
    "permanent delivery failure",
    "warning: could not send message",
    "warning: message",
    "unable to deliver",
    "your message could not be delivered",
    "unzustellbar",
    "nicht zugestellt",
    "nicht zustellbar",
    "zustellung fehlgeschlagen",
    "benachrichtigung zum übermittlungsstatus",
    "benachrichtigung über zustellstatus",
    "übermittlungsfehler",
    "fehler bei der zustellung",
    "mailzustellung fehlgeschlagen",
    "non remis",
    "échec de la remise",
    "no se puede entregar",
    "no se ha podido entregar",
    "impossibile recapitare",
    "niet bezorgd",
    "onbestelbaar",
)

# Words of programs after a phrase; a person goes on differently ("… einrichten", "… process").
_NEXT_WORDS = frozenset(
    ("re", "aw", "until", "till", "bis", "from", "von", "vom", "ab", "jusqu'au", "hasta", "fino", "tot")
)
_DELIMITERS = frozenset("-–—−(|[{<>=*~.!])\"'«»„“”【（、。")


def fold(subject: str) -> str:
    """``subject`` without case, width and spare blanks, cut to 500 characters."""
    return " ".join(unicodedata.normalize("NFKC", subject[: _MAX_SUBJECT * 2]).casefold().split())[
        :_MAX_SUBJECT
    ]


def _prepared(phrases: tuple[str, ...]) -> tuple[str, ...]:
    folded = {fold(phrase) for phrase in phrases}
    folded.discard("")
    return tuple(sorted(folded, key=lambda phrase: (-len(phrase), phrase)))


_STRONG = _prepared(STRONG)
_WEAK = _prepared(WEAK)
_SENTENCES = _prepared(SENTENCES)
_OPENING = "[(*<\"'„“«【（~ "


def automatic_phrase(subject: str, *, is_reply: bool) -> str:
    """The phrase by which ``subject`` is a machine's, or an empty string.

    ``is_reply``: the mail has In-Reply-To. Then ambiguous phrases count too, and what follows the clear ones
    does not matter, for a person's answer would begin with ``Re:``.
    """
    text = fold(subject).lstrip(_OPENING)
    for phrase in _STRONG:
        if text.startswith(phrase) and (is_reply or _ends_like_a_program(text[len(phrase) :])):
            return phrase
    if not is_reply:
        return ""
    for phrase in _WEAK:
        if text.startswith(phrase) and _ends_like_a_program(text[len(phrase) :]):
            return phrase
    return next((phrase for phrase in (*_SENTENCES, *_BOUNCES) if text.startswith(phrase)), "")


def _ends_like_a_program(rest: str) -> bool:
    stripped = rest.lstrip()
    if not stripped or stripped[0] == ":":
        return True
    if "?" in stripped:  # "Out of office - how do I set it up?"
        return False
    return stripped[0] in _DELIMITERS or (rest != stripped and stripped.split(" ", 1)[0] in _NEXT_WORDS)


def is_bounce_subject(subject: str) -> bool:
    """Whether ``subject`` begins as those of bounces do; a person's answer or forward begins with ``Re:``."""
    return fold(subject).lstrip(_OPENING).startswith(_BOUNCES)


def mentions_bounce(subject: str) -> bool:
    """Whether ``subject`` has such words anywhere: "mx1.example.net Mail delivery failed : …"."""
    text = fold(subject)
    return any(phrase in text for phrase in _BOUNCES)
