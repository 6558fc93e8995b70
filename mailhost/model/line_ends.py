"""
What becomes of line ends that are none.

:Room: ``model``
:RFC: 5321 §2.3.8: only CRLF ends a line.
"""

from __future__ import annotations

from enum import Enum


class BareLineEnds(Enum):
    """
    A bare CR or LF in content: it is refused, or mended.

    ``MEND_TRUSTED`` mends it for the operator's own clients and for those who have logged in.
    """

    REFUSE = "refuse"
    MEND_TRUSTED = "trusted"
    MEND = "mend"
