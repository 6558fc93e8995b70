"""
STARTTLS: the rest of the session goes through TLS.

:RFC: 3207 §4 (command), §4.2 (what is forgotten), §5 (refusal until it was given).
"""

from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules


def _usable(rules: Rules) -> bool:
    return rules.starttls


def _offered(rules: Rules, secure: bool) -> bool:
    # §4.2: not listed again once TLS is on.
    return rules.starttls and not secure


STARTTLS = Extension("STARTTLS", verbs=("STARTTLS",), usable=_usable, offered=_offered)
