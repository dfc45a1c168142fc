"""Whose words are they: what a client quotes is cut, what the writer cites, lists or repeats is not."""

from __future__ import annotations

import pytest

from cleo_email.mail.model import Turn
from cleo_email.mail.parse import parse
from cleo_email.pipeline.answer import new_part

US = "Support <agent@example.com>"


def read(
    text: str,
    *,
    subject: str = "Re: Anfrage",
    reply: bool = True,
    known: tuple[str, ...] = (),
    kind: str = "plain",
) -> str:
    head = "From: Anna <anna@example.net>\nTo: agent@example.com\nMessage-ID: <m@example.net>\n"
    head += f"Subject: {subject}\n"
    head += "In-Reply-To: <q@example.com>\nReferences: <q@example.com>\n" if reply else ""
    mail = parse(f"{head}Content-Type: text/{kind}; charset=utf-8\n\n{text}\n".encode())
    return new_part(mail, tuple(Turn("assistant", one) for one in known))


# --- what clients write -------------------------------------------------------------------------------------

ATTRIBUTIONS = {
    "de Gmail": f"Am Di., 24. Nov. 2026 um 14:06 Uhr schrieb {US}:",
    "de Apple": f"Am 24.11.2026 um 14:06 schrieb {US}:",
    "de web.de": f"{US} hat am 24.11.2026 14:06 geschrieben:",
    "de Proton": f"Am Dienstag, 24. November 2026 um 14:06 schrieb {US}:",
    "en Gmail": f"On Tue, Nov 24, 2026 at 2:06 PM {US} wrote:",
    "en Apple": f"On Nov 24, 2026, at 2:06 PM, {US} wrote:",
    "en Yahoo": f"On Tuesday, November 24, 2026 at 02:06:12 PM GMT+1, {US} wrote:",
    "en Outlook for iOS": 'On Tue, Nov 24, 2026 at 2:06 PM +0100, "Support" <agent@example.com> wrote:',
    "fr Gmail": f"Le mar. 24 nov. 2026 à 14:06, {US} a écrit :",
    "fr Apple": f"Le 24 nov. 2026 à 14:06, {US} a écrit :",
    "es Gmail": "El mar, 24 nov 2026 a las 14:06, Support (<agent@example.com>) escribió:",
    "es Apple": f"El 24 nov 2026, a las 14:06, {US} escribió:",
    "it Gmail": f"Il giorno mar 24 nov 2026 alle ore 14:06 {US} ha scritto:",
    "it Apple": f"Il giorno 24 nov 2026, alle ore 14:06, {US} ha scritto:",
    "nl Gmail": f"Op di 24 nov 2026 om 14:06 schreef {US}:",
    "nl Apple": f"Op 24 nov. 2026, om 14:06 heeft {US} het volgende geschreven:",
    "pl Gmail": f"wt., 24 lis 2026 o 14:06 {US} napisał(a):",
    "pl Thunderbird": "W dniu 24.11.2026 o 14:06, Support <agent@example.com> pisze:",
    "pt Gmail": f"Em ter., 24 de nov. de 2026 às 14:06, {US} escreveu:",
    "ru Gmail": f"вт, 24 нояб. 2026 г. в 14:06, {US}:",
    "ru Thunderbird": f"24.11.2026 14:06, {US} пишет:",
    "ru Mail.ru": f"Вторник, 24 ноября 2026, 14:06 +03:00 от {US}:",
    "ru Yandex": '24.11.2026, 14:06, "Support" <agent@example.com>:',
    "ja Gmail": f"2026年11月24日(火) 14:06 {US}:",
    "ja Apple": f"2026/11/24 14:06、{US}のメール:",
    "ja Thunderbird": f"On 2026/11/24 14:06, {US} wrote:",
    "zh Gmail": f"{US} 于2026年11月24日周二 14:06写道：",
    "zh-TW Gmail": f"{US} 於 2026年11月24日週二 下午2:06寫道：",
    "zh 163": '在 2026-11-24 14:06:12，"Support" <agent@example.com> 写道：',
    "zh Apple": f"在 2026年11月24日，14:06，{US} 写道：",
    "ko Gmail": f"2026년 11월 24일 (화) 오후 2:06, {US}님이 작성:",
    "ko Apple": f"2026. 11. 24. 오후 2:06, {US} 작성:",
    "sv Gmail": f"Den tis 24 nov. 2026 kl 14:06 skrev {US}:",
    "da Gmail": f"Den tirs. 24. nov. 2026 kl. 14.06 skrev {US}:",
    "no Gmail": f"tir. 24. nov. 2026 kl. 14:06 skrev {US}:",
    "fi Gmail": f"ti 24. marrask. 2026 klo 14.06 {US} kirjoitti:",
    "tr Gmail": f"{US}, 24 Kas 2026 Sal, 14:06 tarihinde şunu yazdı:",
    "cs Gmail": f"út 24. 11. 2026 v 14:06 odesílatel {US} napsal:",
    "hu Gmail": f"{US} ezt írta (időpont: 2026. nov. 24., K, 14:06):",
    "nl Gmail, Monday": f"Op ma 23 nov 2026 om 14:06 schreef {US}:",
    "sv Gmail, Wednesday": f"Den ons 25 nov. 2026 kl 14:06 skrev {US}:",
    "de Gmail, Wednesday": f"Am Mi., 25. Nov. 2026 um 14:06 Uhr schrieb {US}:",
    "fr Gmail, Monday": f"Le lun. 23 nov. 2026 à 14:06, {US} a écrit :",
    "uk Gmail": f"вт, 24 лист. 2026 р. о 14:06 {US} пише:",
}


ATTRIBUTIONS |= {
    "ar Gmail": f"في الثلاثاء، 24 نوفمبر 2026 في 2:06 م تمت كتابة ما يلي بواسطة {US}:",
    "ar Apple": f"في 24\u200f/11\u200f/2026، الساعة 2:06 م، كتب {US}:",
    "he Gmail": "\u202bבתאריך יום ג׳, 24 בנוב׳ 2026 ב-14:06 מאת \u202aSupport\u202c\u200f "
    "<\u202aagent@example.com\u202c\u200f> כתב:\u202c",
    "fa Gmail": f"در تاریخ سه\u200cشنبه 24 نوامبر 2026، 14:06 {US} نوشت:",
    "sk Gmail": f"ut 24. 11. 2026 o 14:06 {US} napísal(a):",
    "bg Gmail": f"На вт, 24.11.2026 г. в 14:06 ч. {US} написа:",
    "hr Gmail": f"uto, 24. stu 2026. u 14:06 {US} napisao je:",
    "vi Gmail": f"Vào Th 3, 24 thg 11, 2026 vào lúc 14:06 {US} đã viết:",
    "th Gmail": f"ในวันที่ อ. 24 พ.ย. 2026 เวลา 14:06 {US} เขียนว่า:",
    "id Gmail": f"Pada Sel, 24 Nov 2026 pukul 14.06 {US} menulis:",
    "lv Gmail": f"otrd., 2026. g. 24. nov., plkst. 14:06 — lietotājs {US} rakstīja:",
    "et Gmail": f"{US} kirjutas kuupäeval T, 24. november 2026 kell 14:06:",
}
NAMES = [
    "Support <agent@example.com>", "agent@example.com", '"Your friends, at Example" <agent@example.com>',
    "Ihr Support-Team <agent@example.com>", "Your Support Team <agent@example.com>",
    "Marie du Bois <agent@example.com>",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quote", ["> Wie viele?\n> Gruß", "Wie viele?\n\nGruß"])
def test_a_name_may_hold_the_words_of_a_sentence(name: str, quote: str) -> None:
    for line in (f"Am 24.11.2026 um 14:06 schrieb {name}:", f"On Nov 24, 2026, at 2:06 PM, {name} wrote:"):
        assert read(f"Ja, fünf.\n\n{line}\n\n{quote}") == "Ja, fünf."


@pytest.mark.parametrize("domain", ["example.me", "example.us", "about-us.example", "nam.example"])
def test_an_address_may_hold_them_too(domain: str) -> None:
    text = f"Ja, fünf.\n\nOn Nov 24, 2026, at 2:06 PM, Support <info@{domain}> wrote:\n"
    assert read(f"{text}> Wie viele?") == read(f"{text}Wie viele?") == "Ja, fünf."


@pytest.mark.parametrize(
    "line", [f"aў, 24 ліс 2026 г. у 14:06 {US} нешта:", f"Foo {US} bar (2026, 2:06 PM):"]
)
def test_above_marks_a_line_of_a_client_is_known_in_any_language(line: str) -> None:
    assert read(f"Ja, fünf.\n\n{line}\n\n> Wie viele?") == "Ja, fünf."


@pytest.mark.parametrize(
    "line", ["2026年11月24日(火) 14:06 Support:", "вт, 24 нояб. 2026 г. в 14:06, Support:"]
)
def test_around_a_known_text_it_needs_neither_verb_nor_address(line: str) -> None:
    answer = "Bitte starten Sie das Gerät neu und sagen Sie uns, was erscheint."
    assert read(f"Gut.\n\n{line}\n\n> {answer}", known=(answer,)) == "Gut."
    assert read(f"Gut.\n\n{line}\n\n{answer}", known=(answer,)) == "Gut."


@pytest.mark.parametrize("line", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS)
@pytest.mark.parametrize("quote", ["> Wie viele Stühle?\n> Gruß", "Wie viele Stühle?\n\nGruß"])
def test_what_a_client_quotes_below_our_address_is_cut(line: str, quote: str) -> None:
    assert read(f"Ja, fünf.\n\n{line}\n\n{quote}") == "Ja, fünf."
    assert read(f"Ja, fünf.\n\n{line}\n{quote}") == "Ja, fünf."


HEADS = {
    "de": "Von: Support <agent@example.com>\nGesendet: Dienstag, 24. November 2026 14:06\n"
    "An: Anna\nBetreff: Anfrage",
    "en": "From: Support <agent@example.com>\nSent: Tuesday, November 24, 2026 2:06 PM\n"
    "To: Anna\nSubject: Anfrage",
    "en, names alone": "From: Support\nSent: Tuesday, November 24, 2026 2:06 PM\n"
    "To: Anna\nSubject: RE: Anfrage",
    "fr": "De : Support <agent@example.com>\nEnvoyé : mardi 24 novembre 2026 14:06\n"
    "À : Anna\nObjet : Anfrage",
    "es": "De: Support <agent@example.com>\nEnviado: martes, 24 de noviembre de 2026 14:06\n"
    "Para: Anna\nAsunto: Anfrage",
    "it": "Da: Support <agent@example.com>\nInviato: martedì 24 novembre 2026 14:06\n"
    "A: Anna\nOggetto: Anfrage",
    "nl": "Van: Support <agent@example.com>\nVerzonden: dinsdag 24 november 2026 14:06\n"
    "Aan: Anna\nOnderwerp: Anfrage",
    "pl": "Od: Support <agent@example.com>\nWysłano: wtorek, 24 listopada 2026 14:06\n"
    "Do: Anna\nTemat: Anfrage",
    "pt": "De: Support <agent@example.com>\nEnviada em: terça-feira, 24 de novembro de 2026 14:06\n"
    "Para: Anna\nAssunto: Anfrage",
    "ru": "От: Support <agent@example.com>\nОтправлено: 24 ноября 2026 г. 14:06\nКому: Anna\nТема: Anfrage",
    "sv": "Från: Support <agent@example.com>\nSkickat: den 24 november 2026 14:06\nTill: Anna\nÄmne: Anfrage",
    "tr": "Kimden: Support <agent@example.com>\nGönderildi: 24 Kasım 2026 Salı 14:06\n"
    "Kime: Anna\nKonu: Anfrage",
    "zh": "发件人: Support <agent@example.com>\n发送时间: 2026年11月24日 14:06\n收件人: Anna\n主题: Anfrage",
    "zh Foxmail": "发件人： Support\n发送时间： 2026-11-24 14:06\n收件人： Anna\n主题： Anfrage",
    "zh-TW": "寄件者: Support <agent@example.com>\n寄件日期: 2026年11月24日 下午 02:06\n"
    "收件者: Anna\n主旨: Anfrage",
    "ja": "差出人: Support <agent@example.com>\n送信日時: 2026年11月24日 14:06\n宛先: Anna\n件名: Anfrage",
    "ko": "보낸 사람: Support <agent@example.com>\n보낸 날짜: 2026년 11월 24일 화요일 오후 2:06\n"
    "받는 사람: Anna\n제목: Anfrage",
    "zh QQ": "------------------ 原始邮件 ------------------\n发件人: \"Support\" <agent@example.com>;\n"
    "发送时间: 2026年11月24日(星期二) 下午2:06\n收件人: \"Anna\" <anna@example.net>;\n主题: Anfrage",
    "ar": "من: Support <agent@example.com>\nتم الإرسال: الثلاثاء، 24 نوفمبر 2026 02:06 م\n"
    "إلى: Anna\nالموضوع: Anfrage",
    "he": "מאת: Support <agent@example.com>\nנשלח: יום שלישי 24 נובמבר 2026 14:06\nאל: Anna\nנושא: Anfrage",
    "el": "Από: Support <agent@example.com>\nΣτάλθηκε: Τρίτη, 24 Νοεμβρίου 2026 14:06\n"
    "Προς: Anna\nΘέμα: Anfrage",
    "sk": "Od: Support <agent@example.com>\nOdoslané: utorok 24. novembra 2026 14:06\nKomu: Anna\n"
    "Predmet: Anfrage",
    "ro": "De la: Support <agent@example.com>\nTrimis: marți, 24 noiembrie 2026 14:06\nCătre: Anna\n"
    "Subiect: Anfrage",
    "pt, names alone": "De: Support\nEnviada em: terça-feira, 24 de novembro de 2026 14:06\n"
    "Para: Anna\nAssunto: RES: Anfrage",
    "ja, names alone": "差出人: Support\n日付: 火曜日, 2026年11月24日 14:06\n宛先: Anna\n件名: Re: Anfrage",
    "zh Aliyun": "发件人：Support\n发送时间：2026年11月24日(星期二) 14:06\n收件人：anna\n主　题：Re: Anfrage",
    "cs Seznam": "---------- Původní e-mail ----------\nOd: Support <agent@example.com>\n"
    "Komu: anna@example.net\nDatum: 24. 11. 2026 14:06:12\nPředmět: Re: Anfrage",
    "zh QQ, plain": "------------------&nbsp;原始邮件&nbsp;------------------\n发件人: \"Support\";\n"
    "发送时间: 2026年11月24日(星期二) 下午2:06\n收件人: \"Anna\";\n主题: Anfrage",
    "zh 163": "---- 回复的原邮件 ----\n发件人 Support<agent@example.com>\n发送日期 2026年11月24日 14:06",
    "ko Daum": "--------- 원본 메일 ---------\n보낸사람 : Support <agent@example.com>\n받는사람 : anna\n"
    "날짜: 2026년 11월 24일 화요일, 14시 06분\n제목: Anfrage",
    "en, a rule": "-----Original Message-----\nFrom: Support\nSent: Tuesday, November 24, 2026 2:06 PM",
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_head_of_our_mail_and_all_below_it_is_cut(head: str) -> None:
    assert read(f"Ja, fünf.\n\n{head}\n\nWie viele Stühle?") == "Ja, fünf."
    assert read(f"Ja, fünf.\n\n________________________________\n{head}\n\nWie viele Stühle?") == "Ja, fünf."


# --- what the writer says -----------------------------------------------------------------------------------

SENTENCES = [
    "Sie haben am 12.11.2026 um 10:15 Uhr geschrieben:",
    "Am 12.11.2026 um 10:15 schrieb Herr Muster:",
    "On 12 November 2026 at 10:15 you wrote:",
    "Le 12 novembre 2026 à 10:15 vous avez écrit :",
    "El 12 de noviembre de 2026 a las 10:15 usted escribió:",
    "Op 12 november 2026 om 10:15 heeft u geschreven:",
    "12.11.2026 в 10:15 Вы написали:",
    "Laut Protokoll schrieb der Server um 10:15:30:",
    "Im Vertrag vom 12.11.2026 steht geschrieben:",
    "Ihre Kollegin (sales@example.com) hat mir am 12.11.2026 um 10:15 geschrieben:",
    "On 12 Nov 2026 at 10:15 your colleague Max wrote to me:",
    "On 12 Nov 2026 at 10:15 Max wrote:",
    "At 10:15 the log writes:",
    "Le 12 novembre 2026 à 10:15, votre collègue m'a écrit :",
    "El 12 de noviembre de 2026 a las 10:15 su colega me escribió:",
    "Il 12 novembre 2026 alle 10:15 il vostro collega mi ha scritto:",
    "Op 12 november 2026 om 10:15 schreef uw collega mij:",
    "W dniu 12.11.2026 o 10:15 Państwa kolega napisał do mnie:",
    "Em 12 de novembro de 2026 às 10:15 o seu colega escreveu:",
    "12.11.2026 в 10:15 ваш коллега написал мне:",
    "Den 12 november 2026 kl 10:15 skrev er kollega till mig:",
    "12 Kasım 2026 saat 10:15'te meslektaşınız bana şunu yazdı:",
    "2026年11月12日10:15，您的同事给我写道：",
    "2026년 11월 12일 10:15에 담당자가 저에게 작성:",
    # with our address
    "In der Mail vom 12.11.2026, 10:15 Uhr schrieb agent@example.com:",
    "Support <agent@example.com> hat mir am 12.11.2026 um 10:15 geschrieben:",
    "At 10:15 on 12 Nov, support (agent@example.com) wrote to me:",
    "先日 agent@example.com から届いた2026年11月12日 10:15のメール:",
    "كتب لي agent@example.com في 12/11/2026 10:15:",
    "Dne 12.11.2026 v 10:15 mi kolega (jan@firma.example) napsal:",
    "12.11.2026 klo 10.15 kollegasi kirjoitti minulle:",
    "2026.11.12. 10:15-kor a kollégája írta:",
]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("reply", [True, False])
def test_a_sentence_about_who_wrote_what_stays_with_all_below_it(sentence: str, reply: bool) -> None:
    text = f"Guten Tag,\n\n{sentence}\n\nWir liefern am 20.\n\nWann kommt die Ware?"
    assert read(text, subject="Re: Ware" if reply else "Ware", reply=reply) == text
    real = f"{text}\n\nAm 24.11.2026 um 14:06 schrieb {US}:\n> Guten Tag"
    assert read(real) == text


@pytest.mark.parametrize(
    "sentence",
    ["Sie haben am 12.11.2026 um 10:15 geschrieben:", "On 12 Nov 2026 at 10:15 you wrote:", SENTENCES[4]],
)
@pytest.mark.parametrize("known", [(), ("Wie viele Stühle brauchen Sie denn insgesamt?",)])
def test_marks_below_such_a_sentence_are_the_writer_s(sentence: str, known: tuple[str, ...]) -> None:
    text = f"Guten Tag,\n\n{sentence}\n> Wir liefern am 20."
    assert read(text, known=known) == text
    assert read(f"{text}\n\nWann?", known=known) == f"{text}\n\nWann?"


@pytest.mark.parametrize(
    "line",
    ["Max Muster <max@example.org> schrieb am 12.11.2026 um 10:15:", f"On 12 Nov 2026 at 10:15 {US} wrote:"],
)
def test_a_first_mail_cites_others_and_quotes_us(line: str) -> None:
    text = f"Guten Tag,\n\n{line}\n> Wir liefern."
    assert read(text, subject="Ware", reply=False) == ("Guten Tag," if US in line else text)


OTHERS = [
    "Mein Mann schrieb Ihnen am 12.11.2026 um 10:15:", "My wife wrote on 12 Nov 2026 at 10:15:",
    "Le 12/11/2026 à 10:15, le serveur a écrit dans le journal :",
    "El técnico escribió el 12/11/2026 a las 10:15:",
    "Il mio avvocato ha scritto il 12/11/2026 alle 10:15:", "Op 12-11-2026 om 10:15 schreef de server:",
    "Państwa pracownik napisał 12.11.2026 o 10:15:", "Můj účetní napsal 12.11.2026 v 10:15:",
    "Наш бухгалтер пишет 12.11.2026 в 10:15:", "Muhasebecimiz 12.11.2026 10:15 tarihinde yazdı:",
    "我的同事 2026年11月12日 10:15 写道：", "Kirjanpitäjämme kirjoitti 12.11.2026 klo 10.15:",
]  # fmt: skip


@pytest.mark.parametrize("line", OTHERS)
def test_marks_around_what_a_known_thread_does_not_hold_are_a_citation(line: str) -> None:
    answer = "Bitte starten Sie das Gerät neu und sagen Sie uns, was erscheint."
    text = f"Guten Tag,\n\n{line}\n> Wir liefern am 20.\n> Gruß"
    assert read(text, known=(answer,)) == text
    assert read(f"Gut.\n\n{line}\n> {answer}", known=(answer,)) == "Gut."
    client = "On 12 Nov 2026 at 10:15, Max <max@example.org> wrote:"
    assert read(f"Gut.\n\n{client}\n> Wir liefern am 20.", known=(answer,)) == "Gut."


FORMS = [
    "Von: Lager Berlin\nAn: lager@example.net\nDatum: 12.12.2026 10:00\nBetreff: 5 Paletten",
    "From: Warehouse Berlin\nTo: Warehouse Hamburg, store@example.net\nDate: 12/12/2026 10:00\n"
    "Subject: 5 pallets",
    "De : Entrepôt de Lyon\nÀ : entrepot@example.net\nDate : 12/12/2026 10:00\nObjet : 5 palettes",
    "Da: Magazzino\nA: magazzino@example.net\nData: 12.12.2026 10:00\nOggetto: 5 bancali",
    "Od: Magazyn\nDo: magazyn@example.net\nData: 12.12.2026 10:00\nTemat: 5 palet",
    "От: Склад\nКому: sklad@example.net\nДата: 12.12.2026 10:00\nТема: 5 паллет",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reply", [True, False])
@pytest.mark.parametrize("known", [(), ("Wie viele Paletten sind es denn, und wohin sollen sie?",)])
def test_fields_of_an_order_are_no_head_of_a_mail(form: str, reply: bool, known: tuple[str, ...]) -> None:
    text = f"Bitte abholen:\n\n{form}\n\nBitte bestätigen Sie die Uhrzeit."
    assert read(text, subject="Re: Transport", reply=reply, known=known) == text


MARKED = [
    "> Fehler 42\n> Abbruch",
    "> npm install\n> npm start",
    "| Stuhl | 5 |\n| Tisch | 2 |",
    "> Datei > Drucken",
]


@pytest.mark.parametrize("block", MARKED)
def test_a_first_mail_quotes_nothing_of_ours(block: str) -> None:
    text = f"Guten Tag, das erscheint\n\n{block}"
    assert read(text, subject="Fehler", reply=False) == text


@pytest.mark.parametrize("block", MARKED)
def test_in_a_known_thread_marks_are_those_of_a_quote_only_around_its_texts(block: str) -> None:
    text = f"Guten Tag, das erscheint\n\n{block}"
    answer = "Bitte starten Sie das Gerät neu und sagen Sie uns, was erscheint."
    assert read(text, known=(answer,)) == text
    assert (
        read(
            "Gut.\n\n> Bitte starten Sie das Gerät neu\n> und sagen Sie uns, was erscheint.", known=(answer,)
        )
        == "Gut."
    )


def test_a_table_drawn_with_bars_stays_in_a_reply_too() -> None:
    text = "Unsere Bestellung\n\n| Stuhl | 5 |\n| Tisch | 2 |"
    assert read(text) == text
    below = f"{text}\n\nAm 24.11.2026 um 14:06 schrieb {US}:\n| Guten Tag\n| Wie viele?"
    assert read(below) == text


OFFER = (
    "Bitte wählen Sie eine Option:\n\nOption 1: Wir liefern am Montag kostenlos einen Ersatz.\n\n"
    "Option 2: Sie erhalten den vollen Kaufpreis innerhalb von fünf Tagen zurück.\n\nViele Grüße"
)


@pytest.mark.parametrize("lead", ["", "Ich nehme das hier:\n\n", "Guten Tag,\n\n"])
def test_a_sentence_of_ours_may_be_the_answer(lead: str) -> None:
    text = f"{lead}Option 2: Sie erhalten den vollen Kaufpreis innerhalb von fünf Tagen zurück."
    assert read(text, known=(OFFER,)) == text


@pytest.mark.parametrize("head", ["", "Support wrote:\n\n", "Am 24.11.2026 um 14:06 schrieb Support:\n\n"])
def test_a_whole_mail_of_the_thread_is_a_quote_without_marks(head: str) -> None:
    assert read(f"Option 1, bitte.\n\n{head}{OFFER}", known=("Hallo", OFFER)).startswith("Option 1, bitte.")
    assert "Kaufpreis" not in read(f"Option 1, bitte.\n\n{head}{OFFER}", known=("Hallo", OFFER))


@pytest.mark.parametrize(
    "lead",
    [
        "Sie haben am 12.11.2026 um 10:15 Uhr geschrieben:",
        "On 12 Nov 2026 at 10:15 you wrote:",
        "Sie schrieben:",
    ],
)
@pytest.mark.parametrize("mark", ["", "> "])
def test_what_follows_a_repeated_text_is_new(lead: str, mark: str) -> None:
    text = f"Guten Tag,\n\n{lead}\n{mark}Wir liefern am 20.\n\nHeute ist der 25., wo bleibt die Ware?"
    assert read(text, known=("Wir liefern am 20.",)) == text


SAID = "Fehler 42: Die Datei konfig.ini wurde im Ordner Programme nicht gefunden."


@pytest.mark.parametrize("lead", ["Immer noch derselbe Fehler", "Ich schicke es noch einmal.", "Danach kam"])
def test_people_say_again_what_they_have_said_themselves(lead: str) -> None:
    text = f"{lead}\n\n{SAID}"
    mail = parse(f"From: anna@example.net\nSubject: Re: x\nReferences: <q@x>\n\n{text}\n".encode())
    answer = Turn("assistant", "Haben Sie das Gerät schon einmal ganz neu gestartet?")
    assert new_part(mail, (Turn("user", SAID), answer)) == text
    below = f"{text}\n\n{answer.content}\n\n{SAID}"
    mail = parse(f"From: anna@example.net\nSubject: Re: x\nReferences: <q@x>\n\n{below}\n".encode())
    assert answer.content not in new_part(mail, (Turn("user", SAID), answer))


@pytest.mark.parametrize("head", [*list(HEADS.values())[:6], f"Am 24.11.2026 um 14:06 schrieb {US}:"])
def test_answers_below_each_question_of_a_quote_without_marks(head: str) -> None:
    asked = "Haben Sie das Gerät schon neu gestartet?", "Welche Farbe hat die Lampe an der Rückseite?"
    known = ("\n\n".join(asked),)
    above = f"Antworten unten in Blau.\n\n{head}\n\n"
    text = f"{above}{asked[0]}\n\nJa, gestern Abend, zweimal.\n\n{asked[1]}"
    assert read(text, known=known) == text
    assert read(f"{above}{asked[0]}\n\n{asked[1]}", known=known) == "Antworten unten in Blau."


# --- HTML ---------------------------------------------------------------------------------------------------

INDENTS = [
    "<blockquote>Musterweg 5</blockquote>",
    '<blockquote style="margin:0 0 0 40px;border:none;padding:0px"><div>Musterweg 5</div></blockquote>',
    '<blockquote style="margin: 0px 0px 0px 40px;">Musterweg 5</blockquote>',
    '<blockquote dir="ltr" style="margin-right:0px"><p>Musterweg 5</p></blockquote>',
]


@pytest.mark.parametrize("indent", INDENTS)
@pytest.mark.parametrize("reply", [True, False])
@pytest.mark.parametrize("end", ["an", "an:"])
def test_an_indent_is_no_quote(indent: str, reply: bool, end: str) -> None:
    text = read(f"<p>Bitte liefern Sie {end}</p>{indent}", reply=reply, kind="html", subject="Adresse")
    assert text == f"Bitte liefern Sie {end}\n\n  Musterweg 5"


QUOTES = [
    '<blockquote type="cite">Wohin?</blockquote>',
    '<blockquote class="gmail_quote" style="margin:0 0 0 .8ex">Wohin?</blockquote>',
    '<blockquote class="protonmail_quote">Wohin?</blockquote>',
    '<blockquote style="border-left:2px solid #1010FF;margin-left:5px">Wohin?</blockquote>',
    "<blockquote>Wohin?</blockquote>",
]


@pytest.mark.parametrize("quote", QUOTES)
def test_below_its_introduction_a_blockquote_is_one(quote: str) -> None:
    line = "Am 24.11.2026 um 14:06 schrieb Support &lt;agent@example.com&gt;:"
    assert read(f"<p>Musterweg 5</p><div>{line}</div>{quote}", kind="html") == "Musterweg 5"
    second = quote.replace("Wohin", "Und wann")
    between = f"<p>Hallo</p><div>{line}</div>{quote}<p>Musterweg 5</p>{second}<p>Montag</p>"
    text = read(between, kind="html")
    assert all(words in text for words in ("> Wohin?", "Musterweg 5", "> Und wann?", "Montag"))


def test_a_head_inside_of_a_quoted_block_takes_its_title_along() -> None:
    answer = "Bitte starten Sie das Gerät neu und sagen Sie uns, was erscheint."
    head = (
        "> Message du 24/11/26 14:06\n> De : Support <agent@example.com>\n> A : anna\n> Objet : Re: Anfrage"
    )
    assert read(f"Ja.\n\n{head}\n>\n> {answer}", known=(answer,)) == "Ja."


# --- signatures ---------------------------------------------------------------------------------------------


def test_a_second_topic_below_two_dashes_stays_and_a_signature_goes() -> None:
    topic = "Die Ware ist da.\n\n--\n\nNoch etwas: Können Sie mir die Rechnung 4711 noch einmal schicken?"
    assert read(topic, reply=False, subject="Ware") == topic
    for mark in ("--", "-- "):
        assert (
            read(f"Die Ware ist da.\n\n{mark}\nAnna Beispiel\nMusterweg 5, 12345 Berlin\nTel. 030 123")
            == "Die Ware ist da."
        )
