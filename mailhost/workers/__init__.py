"""
Several processes that are one service: a supervisor and its workers.

:Room: ``workers``
"""
