"""
SIZE: the client says how large a message is, and learns how large it may be.

:RFC: 1870 §4 (keyword), §3 (parameter).
"""

from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import parse_size
from mailhost.smtp.rules import Rules


def _limit(rules: Rules, secure: bool) -> str:
    # §4: no parameter means that no limit is announced.
    return str(rules.max_message_octets) if rules.max_message_octets else ""


SIZE = Extension("SIZE", ehlo_words=_limit, mail_parameters={"SIZE": parse_size})
