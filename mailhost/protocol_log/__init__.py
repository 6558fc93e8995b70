"""
What was said in each session, in the formats of IIS.

:Room: ``protocol_log`` (floor 2)
:IIS: GEN-08..GEN-12.
"""
