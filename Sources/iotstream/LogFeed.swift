import Console
import LinuxIO
import Store
import Telemetry
import Wire

/// Messages out of the log in a hub's state directory.
final class LogFeed: MonitorFeed {
    private static let waitMilliseconds = 1000

    private let order: MonitorOrder
    private let tour: TelemetryTour
    private let watch: ModificationWatch
    private let groups: ConsumerGroups

    init(_ paths: RuntimePaths, _ order: MonitorOrder) throws(Failure) {
        self.order = order
        do throws(TelemetryError) {
            let directory = try LogDirectory(paths.telemetry)
            groups = ConsumerGroups(directory)
            watch = try ModificationWatch(directory)
            let own = order.partition ?? order.device.map { directory.partition(of: $0) }
            var readers: [TelemetryReader] = []
            for partition in own.map({ [$0] }) ?? Array(0..<directory.partitions) {
                var start = order.start
                if let group = order.group, let position = try groups.position(of: group, in: partition) { start = .position(position) }
                readers.append(try TelemetryReader(directory, partition: partition, from: start))
            }
            tour = TelemetryTour(readers)
        } catch { throw Failure(error) }
    }

    func next() throws(Failure) -> MonitorPart {
        do throws(TelemetryError) {
            let device = order.device
            let round = try tour.read { device == nil || $0.deviceID == device }
            for damage in round.damage { Output.warn(role: "monitor", TelemetryError.damaged(damage).description) }
            if round.isAtEnd, round.records.isEmpty, order.follows { _ = watch.wait(milliseconds: Self.waitMilliseconds) }
            return MonitorPart(records: round.records.map(\.json), missed: round.missed, isAtEnd: round.isAtEnd)
        } catch { throw Failure(error) }
    }

    func commit(_ records: ArraySlice<JSONValue>) throws(Failure) {
        guard let group = order.group else { return }
        do throws(TelemetryError) {
            for (partition, position) in Self.ends(of: records) { try groups.commit(position, of: group, in: partition) }
        } catch { throw Failure(error) }
    }
}

extension Failure {
    fileprivate init(_ error: TelemetryError) { self.init(exitCode: error.exitCode, error.description) }
}
