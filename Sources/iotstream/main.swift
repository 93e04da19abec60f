// argv[0] or the first word picks the role.
