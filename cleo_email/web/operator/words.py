"""The words of the pages: English as the templates have it or by name in words.toml, German from there."""

import tomllib
from functools import cache
from importlib.resources import files

from flask import request
from markupsafe import Markup

from cleo_email.web.operator.text import plain

LANGUAGES = ("en", "de")


def language() -> str:
    """Return the language that the browser asks for."""
    asked = (code.partition("-")[0].lower() for code, _ in request.accept_languages)
    return next((code for code in asked if code in LANGUAGES), "en")


def say(text: str, **values: object) -> str:
    """Return a text of a page in the language of the request, with ``{…}`` filled in."""
    return say_in(language(), text, **values)


def say_in(code: str, text: str, **values: object) -> str:
    found = words()[code].get(text, text)
    return found.format(**values) if values else found


def fault(status: int, text: str) -> str:
    """Return what went wrong, in the language of the request: of its kind where the text is English."""
    german = words()["de"]
    if language() == "en" or text in german.values():
        return text
    return words()["faults"].get(str(status), german["That did not work"])


def reason(text: str, longest: int = 600) -> Markup:
    """Return the reason of a record for a page, in the language of the request where its words are known."""
    shown = plain(text, longest)
    if language() == "de":
        for english, german in words()["reasons"].items():
            if shown.startswith(english):
                return Markup("<span>{}{}</span>").format(german, shown[len(english) :])
    return Markup('<span lang="en">{}</span>').format(shown)


def span(ms: float) -> str:
    """Return a length of time: 3 s, 12 min, 5 h, 2 d."""
    for limit, unit, name in ((90e3, 1e3, "s"), (90 * 60e3, 60e3, "min"), (48 * 3600e3, 3600e3, "h")):
        if ms < limit:
            number = ms / unit
            places = int(number < 10 and name != "min")
            return decimal(f"{number:.{places}f} {name}")
    return f"{ms / 86400e3:.0f} d"


def decimal(number: str) -> str:
    """Return a number, which may have a point in it, as the language of the request writes it."""
    return number.replace(".", ",") if language() == "de" else number


@cache
def words() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
