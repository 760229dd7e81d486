"""Changing top-level values of thau.toml while the rest of its text, comments included, stays as people wrote it."""

import json
import re
import tomllib

from thaud.errors import ConfigError
from thaud.home import CONFIG_NAME

TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def change(text: str, values: dict[str, str | None]) -> str:
    """The text with these top-level values; None comments the value out. Raises ConfigError where it cannot be done."""
    try:
        expected = tomllib.loads(text)
        changed = text
        for key, value in values.items():
            changed = change_one(changed, key, value)
        found = tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{CONFIG_NAME} is not valid TOML: {error}; correct it by hand first") from error
    expected = {key: value for key, value in {**expected, **values}.items() if value is not None}
    if found != expected:
        raise ConfigError(f"{CONFIG_NAME} cannot be changed safely: set {', '.join(values)} in it by hand")
    return changed


def change_one(text: str, key: str, value: str | None) -> str:
    """The text with one value changed, added in front of the first table, or commented out."""
    first_table = TABLE.search(text)
    end = first_table.start() if first_table else len(text)
    head, rest = text[:end], text[end:]
    line = re.compile(rf"^([ \t]*)({key}[ \t]*=[ \t]*)(\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE)
    if value is None:
        return line.sub(r"\1# \2\3", head, count=1) + rest
    text_of_value = json.dumps(value, ensure_ascii=False)
    if line.search(head):
        return line.sub(lambda found: f"{found[1]}{found[2]}{text_of_value}", head, count=1) + rest
    gap = "" if not head or head.endswith("\n") else "\n"
    return f"{head}{gap}{key} = {text_of_value}\n{rest}"
