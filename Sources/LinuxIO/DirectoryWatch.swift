import CLinux
import Glibc

/// Tells of files that were written, renamed into place or removed in some directories (inotify). Never says what is in them.
package final class DirectoryWatch: Source {
    package enum Change: Sendable, Equatable { case appeared, removed }

    private let descriptor: OwnedDescriptor
    private var directories: [CInt: String] = [:]
    private let changed: (String, Change, Reactor) -> Void

    /// - Parameter changed: gets the path of the file.
    package init(on reactor: Reactor, changed: @escaping (String, Change, Reactor) -> Void) throws(SystemError) {
        descriptor = OwnedDescriptor(adopting: try checked(clx_inotify(), "inotify_init1"))
        self.changed = changed
        super.init()
        try reactor.add(self, descriptor: descriptor.raw, .readable)
    }

    package func watch(_ directory: String) throws(SystemError) {
        let mask = UInt32(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)
        let watch = inotify_add_watch(descriptor.raw, directory, mask)
        guard watch >= 0 else { throw SystemError("inotify_add_watch") }
        directories[watch] = directory
    }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) {
        withUnsafeTemporaryAllocation(byteCount: 16384, alignment: 8) { buffer in
            while case let count = read(descriptor.raw, buffer.baseAddress, buffer.count), count > 0 {
                var offset = 0
                while offset + 16 <= count {
                    let watch = buffer.load(fromByteOffset: offset, as: CInt.self)
                    let mask = buffer.load(fromByteOffset: offset + 4, as: UInt32.self)
                    let length = Int(buffer.load(fromByteOffset: offset + 12, as: UInt32.self))
                    guard length >= 0, offset + 16 + length <= count else { break }
                    let bytes = buffer[(offset + 16)..<(offset + 16 + length)].prefix { $0 != 0 }
                    if let directory = directories[watch], !bytes.isEmpty {
                        let isGone = mask & UInt32(IN_DELETE | IN_MOVED_FROM) != 0
                        changed("\(directory)/\(String(decoding: bytes, as: UTF8.self))", isGone ? .removed : .appeared, reactor)
                    }
                    offset += 16 + length
                }
            }
        }
    }

    public override var isBackground: Bool { true }
    public override func abort(on reactor: Reactor) { reactor.remove(self, descriptor: descriptor.raw) }
}
