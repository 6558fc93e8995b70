"""
Final delivery: mail that stays on this machine.

:Room: ``delivery`` -- writes below Drop, in threads.
:IIS: §10.3, DOM-01, DOM-02.
"""
