import Glibc
import LinuxIO
import Synchronization
import TLS
import Testing

@testable import Trust

/// A directory of its own for a test, gone with it.
final class Scratch {
    let path: String

    init() throws {
        var template = Array("/tmp/iotstream-trust-XXXXXX".utf8CString)
        let made: String? = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
        }
        path = try #require(made)
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        for name in (try? Files.names(in: path)) ?? [] {
            let inner = "\(path)/\(name)"
            if unlink(inner) != 0 { remove(inner) }
        }
        rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    @discardableResult
    func write(_ name: String, _ text: String, mode: mode_t = 0o600) throws -> String {
        try Files.replace(file(name), with: Array(text.utf8), mode: mode)
        return file(name)
    }

    func text(_ name: String) throws -> String { String(decoding: try Files.read(file(name)), as: UTF8.self) }
}

/// The permission bits of a file.
func mode(_ path: String) -> UInt32 { (Files.stamp(path)?.mode ?? 0) & 0o7777 }

/// Lines that somebody was told.
final class Complaints: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}
