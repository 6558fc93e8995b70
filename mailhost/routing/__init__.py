"""
The categorizer: which domain is whose, and where each recipient goes.

:Room: ``routing`` -- no Twisted, no I/O.
"""
