"""The one error that users see, and the words that help them on."""

import difflib
from collections.abc import Iterable

NEAR = 0.6  # how alike two words have to be, as difflib measures it, for one to be taken for the other
LONGEST = 300  # characters of another program's error that are repeated


class ConfigError(ValueError):
    """A model YAML, name, number or file that cannot be used: where, what was found, what was needed."""

    def at(self, where: str) -> "ConfigError":
        """Return the same error with its place put in front."""
        return ConfigError(f"{where}: {self}")


class UsageError(ConfigError):
    """A command line that cannot be understood."""


def nearest(word: object, choices: Iterable[object], near: float = NEAR) -> str | None:
    """Return the choice that is nearest to a word, one that begins with it before others; None where none is near."""
    names = [str(choice) for choice in choices]
    begun = [name for name in names if name.startswith(str(word))] if len(str(word)) > 3 else []
    found = difflib.get_close_matches(str(word), begun or names, n=1, cutoff=0 if begun else near)
    found = found or [name for name in names if name.lower() == str(word).lower()]
    return found[0] if found else None


def suggest(word: object, choices: Iterable[object]) -> str:
    """Return "; did you mean 'x'?" for the choice nearest to a word, or the list of choices if none is near."""
    names = [str(choice) for choice in choices]
    near = nearest(str(word)[:LONGEST], names)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; choose from {', '.join(names)}" if len(names) <= 40 else ""


def shown(value: object, limit: int = LONGEST) -> str:
    """Return a value as Python writes it, not too long."""
    try:
        text = repr(value)
    except Exception:  # whatever it is, the sentence is to be said
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}..."


def one_line(error: object, limit: int = LONGEST) -> str:
    """Return an error's text in one line, not too long; its type stands in for a missing text."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def typed_line(error: BaseException, limit: int = LONGEST) -> str:
    """Return an error's text in one line, with its type: of another program's error the type says as much."""
    text = " ".join(str(error).split())[:limit]
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
