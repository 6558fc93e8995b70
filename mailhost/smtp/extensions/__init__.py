"""
The service extensions, one file per EHLO keyword.

:Room: ``smtp``
:RFC: 5321 §2.2 (the extension model), §4.1.1.11 (parameters).
"""

from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.extensions.eightbitmime import EIGHTBITMIME
from mailhost.smtp.extensions.enhancedstatuscodes import ENHANCEDSTATUSCODES
from mailhost.smtp.extensions.pipelining import PIPELINING
from mailhost.smtp.extensions.size import SIZE

#: In the order in which EHLO lists them.
OFFERED: tuple[Extension, ...] = (SIZE, PIPELINING, ENHANCEDSTATUSCODES, EIGHTBITMIME)

__all__ = ["OFFERED", "Extension"]
