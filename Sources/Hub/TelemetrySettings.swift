import Console
import LinuxIO
import Telemetry
import Wire

/// What the configuration says of the telemetry log.
struct TelemetrySettings: Sendable, Equatable {
    /// Nil takes a log as it is, and 4 for a new one.
    var partitions: Int?
    var retention = TelemetryRetention()

    init() {}

    init(_ section: Configuration.Section?) {
        partitions = section?.integer("telemetry-partitions")
        if let seconds = section?.seconds("telemetry-seconds") { retention.milliseconds = Int64(seconds) * 1000 }
        if let bytes = section?.bytes("telemetry-bytes") { retention.bytes = UInt64(bytes) }
    }

    /// Opens the log, and says what a crash has left in it.
    func open(at path: String) throws(Failure) -> TelemetryLog {
        var options = TelemetryLog.Options()
        options.partitions = partitions
        options.retention = retention
        if let bytes = retention.bytes { options.segmentBytes = min(options.segmentBytes, max(1 << 20, bytes / 32)) }
        let log: TelemetryLog
        do throws(TelemetryError) { log = try TelemetryLog(at: path, options) } catch {
            throw Failure(exitCode: error.exitCode, error.description)
        }
        for findings in log.findings where !findings.isClean {
            let partition = String(findings.partition)
            if findings.tornBytes > 0 || findings.hasRebuiltIndex {
                Log.info("telemetry-recovered", ["partition": partition, "torn-bytes": String(findings.tornBytes)])
            }
            for damage in findings.damage {
                Log.error("telemetry-damaged", ["partition": partition, "file": damage.path, "offset": String(damage.offset)])
            }
        }
        return log
    }
}
