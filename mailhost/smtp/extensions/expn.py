"""
EXPN: who is in a group.

:RFC: 5321 §3.5.2 (it must be announced), §3.5.3, §7.3.
"""

from mailhost.smtp.extensions.base import Extension

EXPN = Extension("EXPN", verbs=("EXPN",))
