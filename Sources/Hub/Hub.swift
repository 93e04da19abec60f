// The hub role.
