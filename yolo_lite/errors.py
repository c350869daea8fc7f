"""Errors that are shown to users, and helpers for their messages."""

import difflib
from collections.abc import Iterable

NEAR = 0.6  # minimum difflib similarity for a suggestion
LONGEST = 300  # maximum number of characters quoted from a value or from another program's error


class ConfigError(ValueError):
    """Model YAML, name, number or file that cannot be used; the message says where, what was found and expected."""

    def at(self, where: str) -> "ConfigError":
        """Return the same error with its location as a prefix."""
        return ConfigError(f"{where}: {self}")


class UsageError(ConfigError):
    """Invalid command line."""


def nearest(word: object, choices: Iterable[object], near: float = NEAR) -> str | None:
    """Return the choice most similar to a word, preferring those that start with it; None if none is similar."""
    names = [str(choice) for choice in choices]
    begun = [name for name in names if name.startswith(str(word))] if len(str(word)) > 3 else []
    found = difflib.get_close_matches(str(word), begun or names, n=1, cutoff=0 if begun else near)
    found = found or [name for name in names if name.lower() == str(word).lower()]
    return found[0] if found else None


def suggest(word: object, choices: Iterable[object]) -> str:
    """Return "; did you mean 'x'?" for the most similar choice, or the list of choices if none is similar."""
    names = [str(choice) for choice in choices]
    near = nearest(str(word)[:LONGEST], names)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; choose from {', '.join(names)}" if len(names) <= 40 else ""


def shown(value: object, limit: int = LONGEST) -> str:
    """Return the repr of a value, truncated to `limit` characters."""
    try:
        text = repr(value)
    except Exception:  # the message has to be shown even if `repr` fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}..."


def one_line(error: object, limit: int = LONGEST) -> str:
    """Return an error's message in one line, truncated to `limit` characters; its type if the message is empty."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def typed_line(error: BaseException, limit: int = LONGEST) -> str:
    """Return an error's message in one line with its type, which is informative for errors of other programs."""
    text = " ".join(str(error).split())[:limit]
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
