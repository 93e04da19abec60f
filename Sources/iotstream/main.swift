import Console
import Glibc
import LinuxIO
import TLS

TLSBuffers.install()

// argv[0] or the first word picks the role. No `async` here: a role blocks its signals before its first thread starts.
exit(Role.start(Process.arguments))
