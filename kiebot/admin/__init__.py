"""What admins do to users, models and works: an act, what it changes, and its audit row, in one transaction.

`model` holds the words: an Act says what is done, to whom, with which facts. `acts.perform` does it, whoever asked: the
bot after a confirmation (`confirm`), the command line at once. Each act checks for itself that it is possible, at the
moment it is done: what a screen showed minutes ago proves nothing. `acts.PERFORMERS` is the list of them; a new kind
of act is a line there, and a question and an answer in kiebot.bot.admin.
"""
