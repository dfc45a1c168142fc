"""The words of the pages: English as the templates have it or by name in words.toml, German from there."""

import tomllib
from functools import cache
from importlib.resources import files

from flask import request

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


@cache
def words() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
