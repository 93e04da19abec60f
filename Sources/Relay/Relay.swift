// Moving bytes between the two legs of a stream, and between a leg and a local socket.
