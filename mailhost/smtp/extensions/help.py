"""
HELP: which commands there are.

:RFC: 5321 §4.1.1.8, §4.1.1.1 (it may be announced; IIS did not, and we do not).
"""

from mailhost.smtp.extensions.base import Extension

HELP = Extension("HELP", verbs=("HELP",), announced=False)
