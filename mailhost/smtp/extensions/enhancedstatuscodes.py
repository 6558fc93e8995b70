"""
ENHANCEDSTATUSCODES: replies carry a status of RFC 3463.

:RFC: 2034 §3.  Which reply has which status stands in `mailhost.smtp.replies`.
"""

from mailhost.smtp.extensions.base import Extension

ENHANCEDSTATUSCODES = Extension("ENHANCEDSTATUSCODES")
