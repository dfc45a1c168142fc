"""The words with which mail clients introduce what they quote, forward and sign, language by language.

Patterns are bounded or possessive, so that they take linear time on any line.
"""

from __future__ import annotations

import re
from typing import Final

# --- "On 3 Feb 2025 at 10:15 Max wrote:" --------------------------------------------------------------------

_VERBS: Final = (
    r"schrieb(?:en)?|geschrieben",
    r"wrote|writes",
    r"a [ée]crit|[ée]crivait",
    r"escribi[óo]|ha escrito",
    r"ha scritto|scrive",
    r"schreef|(?:het )?(?:volgende )?geschreven",
    r"napisa[łl](?:\(a\)|a|\(-a\))?|pisze|napisana przez",
    r"escreveu",
    r"skrev|skrevet|skreiv|kirjoitti",
    r"написал(?:а|\(а\))?|пишет|пише|написа[вл](?:ла|\(ла\))?",
    r"yazd[ıi]|napsal(?:a|\(a\))?|nap[íi]sal(?:a|\(a\))?|[íi]rta|έγραψε|a scris",
    r"写道|寫道|のメール|が書きました|작성",
)
# The verb, in the third person.
VERB: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_VERBS)})(?!\w)", re.IGNORECASE)
_OWN: Final = (
    r"schrieb(?:en)? (?:ich|wir)|(?:ich|wir) schrieb(?:en)?|habe?n? (?:ich|wir)|ich habe|wir haben",
    r"i wrote|we wrote|i have|we have",
    r"j.ai [ée]crit|nous avons|ik (?:heb|schreef)|ho scritto|jag skrev|jeg skrev|escribí",
)
# In the first person it is text: clients never write that.
OWN_WORDS: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_OWN)})(?!\w)", re.IGNORECASE)
# What such a line begins with, where it does not begin with the name or the date.
OPENING: Final = re.compile(
    r"(?:am|on|le|el|il|op|em|den|på|w dniu|dnia|dne|no dia|в|di|pada)(?!\w)", re.IGNORECASE
)
DATE_FIRST: Final = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ ,T]|\Z)")
ADDRESS: Final = re.compile(r"[^\s<>@]{1,64}+@[^\s<>@]{1,200}+")
CLOCK: Final = re.compile(r"(?<!\d)\d{1,2}(?:[:.h]| h )\d{2}(?!\d)")
COLON_CLOCK: Final = re.compile(r"(?<!\d)\d{1,2}:\d{2}(?!\d)")
YEAR: Final = re.compile(r"(?<!\d)(?:(?:19|20)\d\d|\d{1,2}[./-]\d{1,2}[./-]\d{2})(?!\d)")
# "30.09.2017, 18.30, Max <max@example.org>:" has no verb; the address must come last.
NO_VERB: Final = re.compile(r"<[^\s<>@]{1,64}+@[^\s<>@]{1,200}+>\s*[:：]\Z")
DIGIT: Final = re.compile(r"\d")
# "Zitat von Max <max@example.org>:" (Horde); the address must come last.
CITING: Final = re.compile(
    r"(?:zitat von|zitiere|quoting|citation de|citando(?: a)?|citeren van|cytowanie|citerar|citerer)"
    r" [^:\n]{0,200}[^\s<>@]{1,64}+@[^\s<>:：]{1,200}+>?\s?[:：]\Z",
    re.IGNORECASE,
)
# "24.11.2026, 09:00 von max@example.org:" (Tuta)
BY: Final = re.compile(
    r"\d,? (?:von|by|par|por|da|de|van|od|от|af|av|frá) [^\s<>@]{1,64}+@[^\s<>]{1,200}+\Z", re.IGNORECASE
)
# "* Max <max@example.org> [2026-11-24 09:00]:" (mutt)
IN_BRACKETS: Final = re.compile(r"> \[[^\[\]\n]{6,60}\]\s?:\Z")
# "---- Am Di, 24 Nov. 2026 09:00:00 +0100 Max <max@example.org> schrieb ----" (Zoho)
FINAL_VERB: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_VERBS)})\Z", re.IGNORECASE)
# "Max Muster ---24.11.2026 09:00:00---Guten Tag" (Notes)
NOTES: Final = re.compile(
    r"[^\s-][^\n]{0,80}? ?--- ?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},? \d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
    r"(?: [AP]M)? ?---"
)

# --- "Von: … Gesendet: … An: … Betreff: …" ------------------------------------------------------------------

_LABELS: Final = {
    "from": (
        "von from de da van od från fra expéditeur mittente absender remitente afzender nadawca avsändare"
        " afsender lähettäjä от від kimden 发件人 寄件者 差出人"
    ),
    "sent": (
        "gesendet datum sent date envoyé envoyé~le date~d'envoi message~du enviado enviado~el enviado~em"
        " fecha inviato"
        " data data~invio verzonden verzonden~op wysłano wysłane skickat sendt dato lähetetty дата"
        " отправлено надіслано gönderilen 发送时间 日期 送信日時"
    ),
    "to": (
        "an to à a para aan do till til pour destinatario empfänger vastaanottaja кому kime 收件人 收件者"
        " 宛先"
    ),
    "subject": (
        "betreff subject objet sujet asunto oggetto onderwerp temat assunto ämne emne aihe тема konu 主题"
        " 主旨 件名"
    ),
    "other": (
        "cc copie~à kopie copie kopia kopi dw bcc antwort~an reply-to responder~a rispondi~a répondre~à"
        " antwoord~aan risposta importance priorität wichtigkeit priorité attachments anlagen"
        " organization organisation"
    ),
}
LABELS: Final[dict[str, str]] = {
    word.replace("~", " "): kind for kind, words in _LABELS.items() for word in words.split()
}
LABEL: Final = re.compile(
    r"[ \t>*_]{0,8}([^\W\d_][^:*\n]{0,24}?)[ \t\u00a0]?\*{0,2}[:：]\*{0,2}(?=\s|\Z|[<\"'\w])"
)

# --- "-----Ursprüngliche Nachricht-----" --------------------------------------------------------------------

ORIGINAL: Final = frozenset(
    "ursprüngliche nachricht|ursprüngliche e-mail|original-nachricht|originalnachricht|originalmail|"
    "original mail|original message|original email|originalmessage|reply message|message d'origine|"
    "message original|message initial|mensaje original|messaggio originale|messaggio original|"
    "oorspronkelijk bericht|oorspronkelijk e-mailbericht|origineel bericht|oryginalna wiadomość|"
    "wiadomość oryginalna|mensagem original|ursprungligt meddelande|originalmeddelande|"
    "ursprungligt mail|original meddelande|original meddelelse|ursprungsmeddelande|oprindelig mail|"
    "opprinnelig e-post|oprindelig meddelelse|oprindelig besked|original besked|opprinnelig melding|"
    "alkuperäinen viesti|исходное сообщение|вихідне повідомлення|orijinal mesaj|původní zpráva|"
    "eredeti üzenet|原始邮件|原始郵件".split("|")
)
FORWARDED: Final = frozenset(
    "forwarded message|weitergeleitete nachricht|weitergeleitete mail|weitergeleitete e-mail|"
    "message transféré|message transferé|message réexpédié|mensaje reenviado|messaggio inoltrato|"
    "doorgestuurd bericht|przekazana wiadomość|wiadomość przekazana|przesłana wiadomość|"
    "treść przekazanej wiadomości|mensagem encaminhada|mensagem reencaminhada|"
    "vidarebefordrat meddelande|vidarebefordrat mail|videresendt meddelelse|videresendt besked|"
    "videresendt melding|пересылаемое сообщение|转发的邮件|转发邮件信息".split("|")
)
FORWARD_LINES: Final = frozenset(
    "anfang der weitergeleiteten nachricht|anfang der weitergeleiteten e-mail|begin forwarded message|"
    "start of forwarded message|début du message réexpédié|début du message transféré|"
    "inicio del mensaje reenviado|inizio messaggio inoltrato|inizio del messaggio inoltrato|"
    "begin doorgestuurd bericht|początek przekazywanej wiadomości|początek przekazanej wiadomości|"
    "início da mensagem reencaminhada|início da mensagem encaminhada|vidarebefordrat brev|"
    "vidarebefordrat meddelande|start på videresendt besked|start på videresendt meddelelse|"
    "videresendt besked".split("|")
)

# --- "Von meinem iPhone gesendet" ---------------------------------------------------------------------------

_MOBILE: Final = (
    r"von (?:meinem|unterwegs)|gesendet (?:von|mit|über|via|aus)",
    r"von (?:yahoo|aol|outlook|gmx|web\.de|proton)(?: mail| app)? (?:auf|für) [\w .-]{1,30} gesendet\W?\Z",
    r"diese (?:nachricht|e-?mail|mail) wurde (?:von|mit)",
    r"mit (?:proton ?mail|der|dem|meinem)|holen sie sich|laden sie|outlook für",
    r"sent (?:from|via|with|by|on)|from my|get outlook|download outlook",
    r"envoyé (?:depuis|de|avec|à partir|via)|télécharge[rz]|obtenir outlook|obtenez outlook",
    r"enviado (?:desde|do|de|a partir|via|com|con|pelo)|obtener outlook|obter (?:o )?outlook|obtén outlook",
    r"inviato (?:da|dal|con|tramite)|scarica outlook|ottieni outlook",
    r"verzonden (?:met|vanaf|van|via|vanuit)|verstuurd (?:met|vanaf|van|via)|outlook voor",
    r"wysłan[eoay] (?:z|ze|za|przy)|pobierz (?:program )?outlook",
    r"skickat (?:från|med|via)|hämta outlook|sendt (?:fra|med|via)|hent outlook|få outlook",
    r"отправлено (?:с|из)|从我的|從我的|发自我的|寄件自|iphoneから",
)
MOBILE: Final = re.compile(rf"\s*(?:{'|'.join(_MOBILE)})", re.IGNORECASE)
DEVICE: Final = re.compile(
    r"iphone|ipad|ipod|apple|android|handy|smartphone|mobil|galaxy|samsung|huawei|xiaomi|blackberry"
    r"|outlook|e-?mail|windows"
    r"|phone|tablet|gmx|web\.de|yahoo|proton|cell|htc|device|gerät|nokia|xperia|pixel|k-9|spark"
    r"|t[ée]l[ée]phone|telefon"
    r"|teléfono|portable|móvil|dispositiv|toestel|appareil|fairphone|thunderbird|airmail|mailbox|unterwegs"
    r"|傳送|发送|\bti-\d"
    r"|posta|urządzeni|ios|mac\b",
    re.IGNORECASE,
)

# --- below a mailing list's rule ----------------------------------------------------------------------------

LIST_FOOTERS: Final = "mailing list|mailingliste|mailman|liste de diffusion|unsubscribe|abmelden".split("|")
