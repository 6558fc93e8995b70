"""
HELP: which commands there are.

:RFC: 5321 §4.1.1.8, §4.1.1.1 (what is not in the minimum of §4.5.1 is announced; IIS did not).
"""

from mailhost.smtp.extensions.base import Extension

HELP = Extension("HELP", verbs=("HELP",))
