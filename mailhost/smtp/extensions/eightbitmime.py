"""
8BITMIME: content may have octets above 127.

:RFC: 6152 §2.
"""

from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import parse_body

EIGHTBITMIME = Extension("8BITMIME", mail_parameters={"BODY": parse_body})
