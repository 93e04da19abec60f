// The cert role.
