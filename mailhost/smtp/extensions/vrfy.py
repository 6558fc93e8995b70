"""
VRFY: who has a mailbox.

:RFC: 5321 §3.5.2 (it may be announced), §3.5.3, §7.3.  The command is there in any case; where
    this is off its answer tells nothing.
"""

from mailhost.smtp.extensions.base import Extension

VRFY = Extension("VRFY")
