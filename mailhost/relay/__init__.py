"""
The way out: where mail for a domain goes, and the attempts to bring it there.

:Room: ``relay``, floor 5.
"""
