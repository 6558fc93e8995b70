"""
Every SMTP socket, inbound and outbound.

:Room: ``net``
"""
