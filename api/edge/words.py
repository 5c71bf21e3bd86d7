"""What is wrong with a parameter or a field, in the service's words: a client does not know pydantic."""

from collections.abc import Mapping, Sequence
from typing import Any

_PAGED = ("offset", "page", "start", "startindex", "skip")

_WORDS = {
    "missing": "is needed",
    "extra_forbidden": "is not known here",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "string_too_long": "may have {max_length} characters at most",
    "string_too_short": "must have {min_length} characters at least",
    "too_long": "may have {max_length} entries at most",
    "too_short": "must have {min_length} entries at least",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "json_invalid": "is no JSON: {error}",
    "string_unicode": "must be UTF-8",
}
_PATTERNS = {r"^[0-9a-f]{20}$": "must be an id: 20 characters of 0-9 and a-f"}
"""What a pattern asks for, by the pattern; others are shown."""
_LENGTHS = {"bbox": "has four numbers, or six with heights"}


def said(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors (`ValidationError.errors()`) without pydantic's words."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind in ("too_long", "too_short") and (special := _LENGTHS.get(str(error["loc"][-1]))):
        return special
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return _PATTERNS.get(pattern, f"must be written as the regular expression {pattern} says")
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind in _WORDS:
        return _WORDS[kind].format(**context)
    return str(error["msg"])


def unknown(names: Sequence[str], known: Sequence[str]) -> str:
    """What to say of parameters that a path has not."""
    listed = ", ".join(f"'{name}'" for name in names)
    text = f"{listed} {'is' if len(names) == 1 else 'are'} not known here"
    text += f"; known: {', '.join(sorted(known))}" if known else "; this path has no parameters"
    if any(name.lower() in _PAGED for name in names):
        text += "; the link 'next' of an answer leads to the page behind it"
    return text
