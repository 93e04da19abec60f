import Glibc
import LinuxIO

/// What can go wrong with the telemetry log; each case says what was wrong and, where it helps, what to do about it.
package enum TelemetryError: Error, Equatable, Sendable {
    /// There is no log in the directory.
    case missing(path: String)
    /// Another process writes to the log.
    case alreadyOpen(path: String)
    /// What is there is not a log, or one of a later release.
    case notALog(path: String, reason: String)
    /// The log was made with another number of partitions, which never changes.
    case partitionCount(path: String, stored: Int, wanted: Int)
    /// A log has 1 to 128.
    case badPartitionCount(Int)
    case noSuchPartition(Int)
    /// How far a partition is durable cannot be read; opening the log for writing mends it.
    case noMark(path: String)
    /// No space, or no quota, is left on the file system.
    case diskFull(path: String)
    /// The record, or one of its fields, is too long.
    case tooLarge
    /// The log takes no more records.
    case closed
    /// A part of the log cannot be read; what comes after it can.
    case damaged(TelemetryDamage)
    /// The directory now holds another log than the one that was read so far.
    case replaced(path: String)
    /// A consumer group's name: 1 to 50 of `A–Z a–z 0–9 . _ -`, with a letter or digit at both ends, or `$Default`.
    case badGroupName(String)
    case noSuchGroup(String)
    case groupExists(String)
    /// `$Default` cannot be removed.
    case groupStays(String)
    /// A system call failed for another reason.
    case failed(path: String, SystemError)

    /// The error of a system call.
    init(_ error: SystemError, _ path: String) {
        switch error.number {
        case ENOSPC, EDQUOT: self = .diskFull(path: path)
        default: self = .failed(path: path, error)
        }
    }

    /// The error's sysexits(3) code for a command line.
    package var exitCode: Int32 {
        switch self {
        case .missing: 66
        case .alreadyOpen, .closed: 75
        case .notALog, .partitionCount, .damaged, .noMark, .replaced, .tooLarge: 65
        case .badPartitionCount, .noSuchPartition, .badGroupName: 64
        case .noSuchGroup, .groupExists, .groupStays: 1
        case .diskFull: 74
        case .failed(_, let error): error.number == EACCES || error.number == EPERM ? 77 : 74
        }
    }
}

/// Bytes of a partition that are not what was written there.
package struct TelemetryDamage: Equatable, Sendable {
    /// The segment's file.
    package var path: String
    package var partition: Int
    /// The first damaged byte's offset in the partition.
    package var offset: UInt64
    /// Where the next readable record, or the next segment, begins.
    package var resumesAt: UInt64

    package init(path: String, partition: Int, offset: UInt64, resumesAt: UInt64) {
        self.path = path
        self.partition = partition
        self.offset = offset
        self.resumesAt = resumesAt
    }
}

extension TelemetryError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .missing(let path): "\(path): no telemetry log there: start a hub, or name its state directory"
        case .alreadyOpen(let path): "\(path): another process writes to this log"
        case .notALog(let path, let reason):
            "\(path): not a telemetry log of this release (\(reason)): move it away to begin with an empty one"
        case .partitionCount(let path, let stored, let wanted):
            "\(path): has \(stored) partitions and not \(wanted): their number never changes; move the log away to begin with an empty one"
        case .badPartitionCount(let count): "\(count) partitions: a telemetry log has 1 to \(LogDirectory.mostPartitions)"
        case .noMark(let path): "\(path): damaged: the hub mends it when it starts"
        case .noSuchPartition(let number): "partition \(number): there is none of that number"
        case .diskFull(let path): "\(path): no space left on the disk: make room"
        case .tooLarge: "the message is too large for the telemetry log"
        case .closed: "the telemetry log is shut down"
        case .damaged(let damage):
            "\(damage.path): damaged at offset \(damage.offset) of partition \(damage.partition): readable again at \(damage.resumesAt)"
        case .replaced(let path): "\(path): another log has taken the place of the one read so far"
        case .badGroupName(let name):
            "consumer group '\(name)': a name is 1 to 50 letters, digits, '.', '_' and '-', with a letter or digit at both ends"
        case .noSuchGroup(let name): "consumer group '\(name)': there is none of that name"
        case .groupExists(let name): "consumer group '\(name)': there is one of that name"
        case .groupStays(let name): "consumer group '\(name)': is always there"
        case .failed(let path, let error): "\(path): \(error)"
        }
    }
}

/// Runs `body` and gives its error the file's name.
func at<Output: ~Copyable>(_ path: String, _ body: () throws(SystemError) -> Output) throws(TelemetryError) -> Output {
    do throws(SystemError) { return try body() } catch { throw TelemetryError(error, path) }
}
