// Owned descriptors, the reactor, timers, mailboxes, signals, dialling, atomic files: Linux made safe.
