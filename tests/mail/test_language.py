"""The language of a mail, told by its words: rather none than a wrong one."""

from __future__ import annotations

import time

import pytest

from cleo_email.mail.language import detect, language_of, notices
from cleo_email.mail.parse import parse

TEXTS = {
    "de": [
        "Vielen Dank für Ihre Nachricht.",
        "Können Sie mir bitte die Rechnung noch einmal schicken?",
        "Wann kommt meine Bestellung an?",
        "Hallo, der Drucker druckt nicht mehr.",
        "Sehr geehrte Damen und Herren,\nanbei unser Angebot.\nMit freundlichen Grüßen\nAnna Muster",
        "Ja, das passt mir gut.",
    ],
    "en": [
        "Thank you for your message.",
        "Could you please send me the invoice again?",
        "When will my order arrive?",
        "Hello, the printer does not print any more.",
        "Yes, that works for me.",
        "Is the store open on Sunday?",
    ],
    "fr": [
        "Merci pour votre message.",
        "Pouvez-vous m'envoyer la facture, s'il vous plaît ?",
        "Quand est-ce que ma commande arrive ?",
        "Bonjour, l'imprimante ne fonctionne plus.",
        "Oui, cela me convient très bien.",
    ],
    "es": [
        "Gracias por su mensaje.",
        "¿Me puede enviar la factura otra vez, por favor?",
        "¿Cuándo llega mi pedido?",
        "Hola, la impresora no funciona.",
        "Sí, me viene muy bien.",
    ],
    "it": [
        "Grazie per il suo messaggio.",
        "Può mandarmi di nuovo la fattura per favore?",
        "Quando arriva il mio ordine?",
        "Buongiorno, la stampante non funziona più.",
        "Sì, per me va bene.",
    ],
    "nl": [
        "Bedankt voor uw bericht.",
        "Kunt u mij de factuur nog een keer sturen?",
        "Wanneer komt mijn bestelling aan?",
        "Hallo, de printer werkt niet meer.",
        "Ja, dat is goed voor mij.",
    ],
    "pl": [
        "Dziękuję za wiadomość.",
        "Czy może mi Pan wysłać fakturę jeszcze raz?",
        "Kiedy przyjdzie moje zamówienie?",
        "Dzień dobry, drukarka nie działa.",
        "Tak, to mi pasuje.",
    ],
    "pt": [
        "Obrigado pela sua mensagem.",
        "Pode enviar-me a fatura novamente, por favor?",
        "Quando chega o meu pedido?",
        "Olá, a impressora não funciona.",
        "Sim, está bom para mim.",
    ],
    "sv": [
        "Tack för ditt meddelande.",
        "Kan du skicka fakturan till mig igen?",
        "När kommer min beställning?",
        "Hej, skrivaren fungerar inte.",
        "Ja, det passar mig bra.",
    ],
    "da": [
        "Tak for din besked.",
        "Kan du sende mig fakturaen igen?",
        "Hvornår kommer min ordre?",
        "Hej, printeren virker ikke længere.",
        "Hvad koster det, og hvornår kan jeg få varen?",
    ],
    "cs": [
        "Děkuji za vaši zprávu.",
        "Můžete mi prosím poslat fakturu ještě jednou?",
        "Kdy přijde moje objednávka?",
        "Dobrý den, tiskárna nefunguje.",
    ],
    "hu": [
        "Köszönöm az üzenetét.",
        "El tudná küldeni még egyszer a számlát?",
        "Mikor érkezik meg a rendelésem?",
        "Jó napot, a nyomtató nem működik.",
    ],
    "ro": [
        "Mulțumesc pentru mesaj.",
        "Puteți să-mi trimiteți din nou factura?",
        "Bună ziua, imprimanta nu mai funcționează.",
    ],
    "tr": [
        "Mesajınız için teşekkür ederim.",
        "Faturayı bana tekrar gönderir misiniz lütfen?",
        "Merhaba, yazıcı çalışmıyor, ne yapabilirim?",
    ],
    "fi": [
        "Kiitos viestistänne.",
        "Voisitteko lähettää minulle laskun vielä kerran?",
        "Hei, tulostin ei toimi. Mitä minun pitää tehdä?",
    ],
    "ru": [
        "Спасибо за ваше сообщение.",
        "Можете ли вы ещё раз отправить мне счёт?",
        "Здравствуйте, принтер больше не работает.",
    ],
    "uk": [
        "Дякую за ваше повідомлення.",
        "Чи можете ви ще раз надіслати мені рахунок?",
        "Добрий день, принтер більше не працює.",
    ],
    "bg": [
        "Благодаря за съобщението.",
        "Може ли да ми изпратите фактурата отново?",
        "Здравейте, принтерът не работи.",
    ],
    "el": ["Ευχαριστώ για το μήνυμά σας."],
    "ja": ["ご連絡ありがとうございます。", "請求書をもう一度送ってください。"],
    "zh": ["谢谢您的来信。", "请再发一次发票。"],
    "ko": ["메시지 감사합니다.", "청구서를 다시 보내 주세요."],
    "ar": ["شكرا على رسالتك، متى يصل طلبي؟"],
    "he": ["תודה על ההודעה שלך."],
    "fa": ["با سلام، لطفاً فاکتور را دوباره برای من ارسال کنید. ممنون می‌شوم اگر سریع پاسخ دهید."],
}
NONE = [
    "",
    "ok",
    "Danke",
    "4711",
    "Anna Müller\nMusterstraße 1",
    "OK, thx 👍",
    "https://example.com/the/and/of/with/for",
    "ABC-4711 XL Pro Max 2TB",
    "anna@example.de\n+49 30 123456",
    "Thank you for your message. Vielen Dank für Ihre Nachricht.",
]


def test_short_mails_of_every_language() -> None:
    """None is told wrong, and at least nine of ten are told."""
    pairs = [(language, text) for language, texts in TEXTS.items() for text in texts]
    found = [(language, detect(text), text) for language, text in pairs]
    assert [one for one in found if one[1] not in ("", one[0])] == []
    assert sum(told == language for language, told, _ in found) >= len(pairs) * 0.9, found


@pytest.mark.parametrize("text", NONE)
def test_too_short_or_mixed(text: str) -> None:
    assert detect(text) == ""


@pytest.mark.parametrize(
    ("header", "text", "language"),
    [
        ("de-DE", "ok", "de"),
        ("en-US", "Vielen Dank für Ihre Nachricht.", "de"),
        ("de, en", "ok", ""),
        ("=?x", "ok", ""),
        ("", "ok", ""),
    ],
)
def test_the_header_counts_where_the_words_do_not_tell(header: str, text: str, language: str) -> None:
    mail = parse(f"From: a@b.test\r\nContent-Language: {header}\r\n\r\n{text}\r\n".encode())
    assert language_of(mail, text) == language


def test_every_language_has_a_notice() -> None:
    assert set(TEXTS) - {"fa"} <= set(notices())


def test_no_text_takes_long() -> None:
    began = time.process_time()
    for text in ("a" * 10**6, "a@" * 10**6, "der " * 10**6, "æ" * 10**6):
        detect(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        'Traceback (most recent call last):\n  File "a.py"\nValueError: the value is not in the list\n\n'
        "Was bedeutet das?",
        'Ich bekomme "The connection to the server was reset while the page was loading". Was ist das?',
        "```\nfor x in the_list: if x is not None and y in z: print(x)\n```\nWarum geht das nicht?",
        "Wann kommt die Lieferung?\n\n> Dear customer, your order has been shipped and will be with you.",
    ],
)
def test_what_others_wrote_does_not_count(text: str) -> None:
    assert detect(text) == "de"
