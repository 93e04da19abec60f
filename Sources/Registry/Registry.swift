// The rules of identities, modules and policies, without sockets or threads.
