// The device role.
