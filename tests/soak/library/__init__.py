"""python-telegram-bot's own tests of a rate limiter, run against ours in the place of the library's.

They are part of the library's source archive, which is fetched from the package index for the installed version and
thrown away afterwards. `ours.py` is the plug-in that puts our limiter where theirs is expected.
"""
