"""Words with which machines begin their subjects, language by language."""

from __future__ import annotations

from typing import Final

# Whole or followed by a colon and the like, these count without further evidence.
STRONG: Final = tuple(
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
WEAK: Final = tuple(
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
    lomalla|urlop|nieobecny|nieobecna|nieobecność|dovolená|szabadság|concediu|odsoten|отпуск|в отпуске
    нет в офисе|外出
    read|not read|read receipt|gelesen|nicht gelesen|ungelesen|gelöscht|ungelesen gelöscht
    no leído|non letto|niet gelezen|oläst|ej läst|ulæst|ikke læst|ulest|ikke lest|não lida|nie przeczytano
    nieprzeczytane|nepřečteno|не прочтено|не прочитано|luettu|ei luettu|lesebestätigung|lesebestaetigung|lu
    non lu|leído
    letto|lettura|gelezen|läst|læst|lest|przeczytane|přečteno|прочтено|прочитано|lida|return receipt
    receipt confirmation|disposition notification|eingangsbestätigung|empfangsbestätigung
    message confirmation required|sender verification|verification required
    """.replace("\n", "|").split("|")
)

# Whole sentences of programs; what follows them is their topic.
SENTENCES: Final = tuple(
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
    """.replace("\n", "|").split("|")
)

# How bounces begin.
BOUNCES: Final = (
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

# Titles of ticket systems; a number or a topic of ours follows, never the rest of a sentence.
TITLES: Final = ("ticket received", "ticket created", "case created", "request received")

# Those of the ambiguous words that are everyday topics: "Holiday: two more rooms", "Auto: neue Reifen".
TOPICS: Final = tuple(
    """
    auto|autom.|automatisch|urlaub|vacation|holiday|annual leave|elternzeit|mutterschutz|maternity leave
    parental leave|away|absence|vacaciones|férias|vakantie|ferie|loma|urlop|dovolená|szabadság|concediu|отпуск
    """.replace("\n", "|").split("|")
)

# What Lotus Notes writes after the name of the absent person: "Max Mustermann ist außer Haus."
ABSENT: Final = (
    "is out of the office",
    "ist außer haus",
    "ist nicht im büro",
    "est absent(e)",
    "está ausente",
    "está fuera de la oficina",
    "è fuori ufficio",
    "è assente",
    "is afwezig",
    "is niet aanwezig",
    "är inte på kontoret",
    "er ikke til stede",
    "jest poza biurem",
)

# What programs append in brackets: "Re: Offer [Automatic reply]".
APPENDED: Final = tuple(
    """
    automatic reply|auto reply|auto-reply|autoreply|automated reply|automatic response|auto response
    auto-response
    autoresponse|automated response|automatische antwort|auto-antwort|réponse automatique|respuesta automática
    resposta automática|risposta automatica|automatisch antwoord|autosvar|automatiskt svar|automatisk svar
    odpowiedź automatyczna|verification required|sender verification|email verification|auto-generated
    """.replace("\n", "|").split("|")
)
