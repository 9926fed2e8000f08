"""``steprule bench``: a step of AdamW beside other libraries, on the machine where it runs.

Every peer is a line of ``peers``; ``alone`` measures one in a process of its own, ``compare`` all of them side by side
in turns (``timing``), and ``report`` shows it.
"""
