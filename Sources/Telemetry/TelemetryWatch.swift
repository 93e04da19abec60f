import LinuxIO

extension ModificationWatch {
    /// Tells a reader in another process that a log has grown: a watch of the partitions' marks.
    package convenience init(_ directory: LogDirectory) throws(TelemetryError) {
        let marks = try (0..<directory.partitions).map { number throws(TelemetryError) in try directory.partition(number).mark }
        do throws(SystemError) { try self.init(marks) } catch { throw TelemetryError(error, directory.path) }
    }
}
