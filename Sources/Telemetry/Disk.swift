import Glibc
import LinuxIO

/// The calls by which records reach the disk. Tests put in disks that are full, fail or lose power.
package struct Disk: Sendable {
    /// pwrite(2): the bytes written, which may be fewer than asked for, or `-errno`.
    package var write: @Sendable (_ file: CInt, _ bytes: UnsafeRawBufferPointer, _ place: Int) -> Int
    /// fdatasync(2): 0 or `-errno`.
    package var sync: @Sendable (_ file: CInt) -> CInt
    /// ftruncate(2): 0 or `-errno`.
    package var truncate: @Sendable (_ file: CInt, _ size: Int) -> CInt

    package init(
        write: @escaping @Sendable (CInt, UnsafeRawBufferPointer, Int) -> Int = Disk.systemWrite,
        sync: @escaping @Sendable (CInt) -> CInt = Disk.systemSync,
        truncate: @escaping @Sendable (CInt, Int) -> CInt = Disk.systemTruncate
    ) {
        self.write = write
        self.sync = sync
        self.truncate = truncate
    }

    @Sendable package static func systemWrite(_ file: CInt, _ bytes: UnsafeRawBufferPointer, _ place: Int) -> Int {
        let count = pwrite(file, bytes.baseAddress, bytes.count, off_t(place))
        return count >= 0 ? count : -Int(errno)
    }

    @Sendable package static func systemSync(_ file: CInt) -> CInt { fdatasync(file) == 0 ? 0 : -errno }

    @Sendable package static func systemTruncate(_ file: CInt, _ size: Int) -> CInt { ftruncate(file, off_t(size)) == 0 ? 0 : -errno }

    /// Writes all of `bytes`.
    func writeAll(_ bytes: UnsafeRawBufferPointer, to file: CInt, at place: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = write(file, UnsafeRawBufferPointer(rebasing: bytes[done...]), place + done)
            if count == -Int(EINTR) { continue }
            guard count > 0 else { throw SystemError("write", count == 0 ? EIO : CInt(-count)) }
            done += min(count, bytes.count - done)
        }
    }

    func syncAll(_ file: borrowing OwnedDescriptor) throws(SystemError) { try checked(sync(file.raw), "fdatasync") }
    func cut(_ file: borrowing OwnedDescriptor, to size: Int) throws(SystemError) { try checked(truncate(file.raw, size), "ftruncate") }
}

/// Reading at a place, whole files' sizes, and opening.
enum PlainFile {
    static func open(_ path: String, _ flags: CInt, mode: mode_t = 0o600) throws(SystemError) -> OwnedDescriptor {
        let raw = Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode)
        guard raw >= 0 else { throw SystemError("open") }
        return OwnedDescriptor(adopting: raw)
    }

    static func size(_ file: borrowing OwnedDescriptor) throws(SystemError) -> Int {
        var status = stat()
        guard fstat(file.raw, &status) == 0 else { throw SystemError("fstat") }
        return Int(status.st_size)
    }

    /// At most `count` bytes; fewer only at the end of the file.
    static func read(_ file: borrowing OwnedDescriptor, at place: Int, count: Int) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let raw = file.raw
        let filled = try bytes.withUnsafeMutableBufferPointer { (room) throws(SystemError) -> Int in
            try read(raw, at: place, into: UnsafeMutableRawBufferPointer(room))
        }
        if filled < count { bytes.removeLast(count - filled) }
        return bytes
    }

    /// Fills `room` but for what is beyond the end of the file.
    static func read(_ file: CInt, at place: Int, into room: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        var done = 0
        while done < room.count {
            let count = pread(file, room.baseAddress?.advanced(by: done), room.count - done, off_t(place + done))
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("read")
            }
            done += count
        }
        return done
    }
}
