// The life of a device stream as a state machine, without descriptors or clocks.
