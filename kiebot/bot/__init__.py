"""What a user sees and can press: from one Telegram update to effects and messages, and nothing in between.

    payload -> application.py: who, where, is it for us -> handlers/: a file per topic -> unit.say -> outbox rows

A handler works on a Unit (unit.py): the open transaction, the user, their language. It never waits for the network;
messages leave as outbox rows after the commit, and so do all retries. Nothing is kept in memory, so any replica answers
any button of any message:

- what a user is choosing is a Session (session.py), the content of one draft row. Each screen belongs to one version
  of it and carries its stamp in every button (press.py); an older button redraws instead of acting, and the button that
  bought something says so when it is pressed again.
- the form itself is pure (form.py and its neighbours): schema and answers in, screen out. desk.py draws it.
- a purchase is one transaction: draft, generation and hold. The message that held the button becomes the status card.

rendering.py turns facts into the texts of cards and outcomes, long after the handler is gone. menu.py is the list of
commands Telegram shows. In groups the bot reacts to commands that name it, to answers to its own messages and to
presses of a button's owner; everybody pays from their own wallet.
"""
