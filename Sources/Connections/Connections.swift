// Byte streams under edge-triggered readiness, plain or TLS, that can move between reactors.
