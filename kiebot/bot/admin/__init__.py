"""What admins see and press: commands and screens that do not exist for anybody else.

    access.py: who is an admin, just now -> table.py: every command and press -> people, models, letters, works, figures
    a button that would change something -> confirm.py: a question -> its one press -> kiebot.admin.acts.perform

Only the ids of ADMIN_IDS count, in their own private chat, with their own words. Everything is checked again with each
update: whoever was taken off the list cannot press what they were shown before. To everybody else the routes do not
match, so a command falls through to the answer every unknown command gets.
"""
