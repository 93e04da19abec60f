import Bytes
import CLinux
import Glibc
import LinuxIO

/// A log's directory: what is fixed about it, and how its files are called.
///
///     format                      text: what the log is, and its number of partitions
///     lock                        held by the process that writes
///     0/ 1/ …                     a directory for each partition, with
///         00000000000000000000.log      segments, named by the offset of their first record
///         00000000000000000000.index    places in a segment, to find one soon; can be lost
///         mark                          how far the partition is durable
///     groups/NAME/PARTITION       how far a consumer group has come
package struct LogDirectory: Equatable, Sendable {
    /// Each has a thread of its own in the process that writes.
    package static let mostPartitions = 128

    package let path: String
    package let partitions: Int
    package let identifier: LogIdentifier

    private static let firstLine = "iotstream-telemetry 1"

    /// Reads the format of the log in a directory.
    package init(_ path: String) throws(TelemetryError) {
        let file = "\(path)/format"
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(file, limit: 4096) } catch {
            if error.number == ENOENT { throw .missing(path: path) }
            throw TelemetryError(error, file)
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard lines.first?.hasPrefix("iotstream-telemetry ") == true else {
            throw .notALog(path: file, reason: "its first line is another")
        }
        guard lines[0] == Self.firstLine else { throw .notALog(path: file, reason: "written by a newer release") }
        guard lines.count >= 3, lines[1].hasPrefix("log "), let identifier = LogIdentifier(text: lines[1].dropFirst(4)),
            lines[2].hasPrefix("partitions "), let partitions = Int(lines[2].dropFirst(11)), 1...Self.mostPartitions ~= partitions
        else { throw .notALog(path: file, reason: "lines are missing") }
        self.path = path
        self.partitions = partitions
        self.identifier = identifier
    }

    /// Makes a new log, unless there are segments already.
    static func create(_ path: String, partitions: Int) throws(TelemetryError) -> LogDirectory {
        guard 1...mostPartitions ~= partitions else { throw .badPartitionCount(partitions) }
        guard !Files.exists("\(path)/0") else { throw .notALog(path: "\(path)/format", reason: "it is missing, and there are partitions") }
        let text = "\(firstLine)\nlog \(LogIdentifier.random().text)\npartitions \(partitions)\n"
        try at("\(path)/format") { () throws(SystemError) in try Files.replace("\(path)/format", with: Array(text.utf8), mode: 0o640) }
        return try LogDirectory(path)
    }

    /// The partition of a device's messages: CRC-32C of its identifier in UTF-8, modulo the number of partitions.
    package func partition(of deviceID: String) -> Int { Int(Checksum.of(deviceID.utf8Span.span.bytes)) % partitions }

    func partition(_ number: Int) throws(TelemetryError) -> PartitionFiles {
        guard 0..<partitions ~= number else { throw .noSuchPartition(number) }
        return PartitionFiles(directory: "\(path)/\(number)", number: number, log: identifier)
    }
}

/// The files of one partition.
struct PartitionFiles: Equatable, Sendable {
    let directory: String
    let number: Int
    let log: LogIdentifier

    var mark: String { "\(directory)/mark" }
    func segment(_ base: UInt64) -> String { "\(directory)/\(Self.digits(base)).log" }
    func index(_ base: UInt64) -> String { "\(directory)/\(Self.digits(base)).index" }

    /// The offsets at which segments begin, ascending.
    func bases() throws(TelemetryError) -> [UInt64] {
        try at(directory) { () throws(SystemError) in try Files.names(in: directory) }.compactMap(Self.base)
    }

    private static func digits(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 20 - digits.count)) + digits
    }

    private static func base(_ name: String) -> UInt64? {
        guard name.utf8.count == 24, name.hasSuffix(".log"), name.utf8.prefix(20).allSatisfy({ 48...57 ~= $0 }),
            let base = UInt64(name.prefix(20)), base <= 1 << 62, base % 8 == 0
        else { return nil }
        return base
    }
}
