"""
CHUNKING: content in chunks of a known size, without dots and without 354.

:RFC: 3030 §2 (BDAT), §4.1 (when it fails).
"""

from mailhost.smtp.extensions.base import Extension

CHUNKING = Extension("CHUNKING", verbs=("BDAT",))
