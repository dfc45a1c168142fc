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


@cache
def words() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
