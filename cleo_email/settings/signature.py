"""The signature of EMAIL_SIGNATURE: a text, a file, or a file for each language."""

import re
from collections.abc import Mapping
from pathlib import Path

LANGUAGE = "{language}"
EXPECTED = "a text, or @ and the path of a file, one for each language as @signature.{language}.md"
_CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_](?:[A-Za-z]{2}|[A-Z][a-z]{3}))?")  # with a region or a script
_SEPARATOR = re.compile(r"\A\s*--[^\S\n]*(?:\n|\Z)")  # stands above every signature anyway


def signature_files(value: str) -> dict[str, Path]:
    """Return the files that a value names, by language; '' for a file without one."""
    if not value.startswith("@"):
        return {}
    path = Path(value[1:].strip())
    if LANGUAGE not in path.name:
        return {"": path}
    before, _, after = path.name.partition(LANGUAGE)
    found = path.parent.glob("*") if path.parent.is_dir() else ()
    names = {one: one.name.removeprefix(before).removesuffix(after) for one in sorted(found)}
    return {
        code.lower().replace("_", "-"): one
        for one, code in names.items()
        if _CODE.fullmatch(code) and one.name == before + code + after
    }


def read_signature(value: str) -> tuple[Mapping[str, str], list[str]]:
    """Return the signatures by language, and a line for each fault. A relative path begins here."""
    if not value:
        return {}, []
    if not value.startswith("@"):
        return {
            "": _text(value.replace("\\n", "\n"))
        }, []  # some forms of hosting services take one line only
    files = signature_files(value)
    if not files:
        example = value[1:].replace(LANGUAGE, "en")
        return {}, [f"found no file {Path(value[1:]).absolute()}, expected one at least, such as {example}"]
    texts, faults = {}, []
    for language, path in files.items():
        try:
            texts[language] = _text(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no UTF-8"
            faults.append(f"found {path.absolute()}, which cannot be read ({why}), expected a UTF-8 file")
            continue
        if not texts[language]:
            faults.append(f"found {path}, which is empty, expected a file with the text of the signature")
    return texts, faults


def _text(written: str) -> str:
    return _SEPARATOR.sub("", written).strip()
