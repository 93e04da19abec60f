import LinuxIO
import Registry
import Synchronization
import Telemetry
import Wire

/// One request for messages of the log: answered with what is there, or with what comes while it waits. Reads on a thread beside the
/// reactors.
final class TelemetryPoll: Source {
    /// What is asked for.
    struct Order: Sendable {
        var partitions: [Int]
        var start: TelemetryStart
        /// Where an earlier answer ended; goes over `start`.
        var places: TelemetryPlaces?
        var device: String?
        var count: Int
        var waitSeconds: Int
    }

    private let core: HubCore
    private let order: Order
    private let answered: (Result<JSONValue, TelemetryError>, Reactor) -> Void
    private var tour: TelemetryTour?
    private var subscriptions: [TelemetrySubscription] = []
    private var isReading = false
    /// Something has come while it was being read.
    private var hasMore = false
    private var isOverdue = false
    private var missed: UInt64 = 0

    /// - Parameter answered: called once, from the reactor's loop.
    init(_ order: Order, core: HubCore, _ answered: @escaping (Result<JSONValue, TelemetryError>, Reactor) -> Void) {
        self.order = order
        self.core = core
        self.answered = answered
        super.init()
    }

    override var isBackground: Bool { true }

    func begin(on reactor: Reactor) {
        reactor.add(self)
        reactor.setDeadline(of: self, inMilliseconds: order.waitSeconds * 1000)
        let token = self.token, mailbox = reactor.mailbox
        do throws(TelemetryError) {
            for partition in order.partitions where order.waitSeconds > 0 {
                subscriptions.append(
                    try core.telemetry.subscribe(to: partition) {
                        mailbox.send { reactor in (reactor.source(token) as? TelemetryPoll)?.somethingCame(on: reactor) }
                    })
            }
            read(on: reactor)
        } catch { finish(.failure(error), on: reactor) }
    }

    private func somethingCame(on reactor: Reactor) {
        if isReading { hasMore = true } else { read(on: reactor) }
    }

    private func read(on reactor: Reactor) {
        isReading = true
        hasMore = false
        let token = self.token, mailbox = reactor.mailbox, core = self.core, order = self.order, known = self.tour
        let isTaken = core.telemetryReading.submit {
            do throws(TelemetryError) {
                let tour = if let known { known } else { try Self.tour(order, core) }
                let round = try tour.read(records: order.count) { order.device == nil || $0.deviceID == order.device }
                mailbox.send { reactor in (reactor.source(token) as? TelemetryPoll)?.read(round, tour, on: reactor) }
            } catch {
                mailbox.send { reactor in (reactor.source(token) as? TelemetryPoll)?.finish(.failure(error), on: reactor) }
            }
        }
        if !isTaken { finish(.failure(.closed), on: reactor) }
    }

    private static func tour(_ order: Order, _ core: HubCore) throws(TelemetryError) -> TelemetryTour {
        var readers: [TelemetryReader] = []
        for partition in order.partitions {
            let known = order.places?.positions[partition]
            readers.append(try core.telemetry.reader(of: partition, from: known.map { .position($0) } ?? order.start))
        }
        return TelemetryTour(readers)
    }

    private func read(_ round: TelemetryRound, _ tour: TelemetryTour, on reactor: Reactor) {
        isReading = false
        self.tour = tour
        missed &+= round.missed
        if round.records.isEmpty, !isOverdue {
            // Others' messages may lie between: on, until there is one of those asked for or nothing more.
            if !round.isAtEnd || hasMore { return read(on: reactor) }
            if order.waitSeconds > 0 { return }
        }
        finish(.success(answer(round.records, tour.places)), on: reactor)
    }

    private func answer(_ records: [PlacedRecord], _ places: TelemetryPlaces) -> JSONValue {
        ["records": .array(records.map(\.json)), "missed": .integer(Int64(clamping: missed)), "next": .string(places.text)]
    }

    override func deadlinePassed(on reactor: Reactor) {
        isOverdue = true
        if !isReading, let tour { finish(.success(answer([], tour.places)), on: reactor) }
    }

    private func finish(_ result: Result<JSONValue, TelemetryError>, on reactor: Reactor) {
        for subscription in subscriptions { subscription.cancel() }
        subscriptions = []
        reactor.remove(self)
        answered(result, reactor)
    }

    override func abort(on reactor: Reactor) { finish(.failure(.closed), on: reactor) }
}
