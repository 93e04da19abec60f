// OpenSSL contexts and sessions, certificates and keys.
