"""
One virtual server, put together, and its life.

:Room: ``server``
"""
