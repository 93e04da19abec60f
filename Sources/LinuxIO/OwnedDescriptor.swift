import Glibc

/// A file descriptor with one owner, closed when the owner ends.
package struct OwnedDescriptor: ~Copyable, Sendable {
    package let raw: CInt

    package init(adopting raw: CInt) { self.raw = raw }

    deinit { close(raw) }  // never retried: Linux frees the number even after EINTR

    /// Hands the descriptor to someone who will close it.
    package consuming func release() -> CInt {
        let raw = self.raw
        discard self
        return raw
    }
}
