// What goes over the network, as pure functions of bytes.
