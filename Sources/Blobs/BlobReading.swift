import Glibc
import LinuxIO

/// A file that is being read; it stays what it is when another takes its name.
package final class BlobReading: Sendable {
    package let properties: BlobProperties
    package let fields: BlobFields
    private let file: OwnedDescriptor

    /// Waits for the disk.
    package init(_ name: BlobName, in directory: BlobDirectory) throws(BlobError) {
        let raw = open(directory.file(name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard raw >= 0 else {
            guard errno != ENOTDIR else { throw .notFound }
            throw BlobError(SystemError("open"))
        }
        let file = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw BlobError(SystemError("fstat")) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notFound }
        properties = BlobProperties(status)
        fields = BlobFields(of: file)
        self.file = file
    }

    /// Up to `count` bytes from `offset` on; fewer at the end. Waits for the disk.
    package func read(at offset: Int, count: Int) throws(BlobError) -> [UInt8] {
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: max(0, count)) { room, filled in
            while filled < room.count {
                let got = pread(file.raw, room.baseAddress?.advanced(by: filled), room.count - filled, off_t(offset + filled))
                if got == 0 { break }
                if got < 0 {
                    if errno == EINTR { continue }
                    failure = SystemError("pread")
                    break
                }
                filled += got
            }
        }
        if let failure { throw .system(failure) }
        return bytes
    }
}
