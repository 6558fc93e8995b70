"""
PIPELINING: commands may come without waiting for each reply.

:RFC: 2920.  That replies keep the order of the commands (promise P5) is the
    work of `mailhost.smtp.server_dialogue`: it hands out one event at a time.
"""

from mailhost.smtp.extensions.base import Extension

PIPELINING = Extension("PIPELINING")
