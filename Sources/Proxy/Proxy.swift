// forward, connect and ssh.
