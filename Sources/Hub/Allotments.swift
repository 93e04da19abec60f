import LinuxIO
import Registry
import Relay
import Synchronization

/// How many streams there are and may be, and how fast they may be: the configuration's limits, and over them the devices' quotas.
/// Behind a lock that opening and closing a stream take, and no byte of one.
final class Allotments: Sendable {
    private struct Count: Sendable {
        var second: Int64 = 0
        var opened = 0
        var running = 0

        mutating func begin(_ now: Int64) { if second != now { (second, opened) = (now, 0) } }
        mutating func add() { (opened, running) = (opened + 1, running + 1) }
    }

    private struct Device: Sendable {
        var count = Count()
        /// What its streams share; nil while nothing limits them together.
        var rate: SharedRate?
    }

    private struct State: Sendable {
        var limits: HubLimits
        var count = Count()
        var total: SharedRate?
        /// Devices with streams, and those that had some in this second.
        var devices: [String: Device] = [:]
        /// Devices whose last stream has closed in this second.
        var left: [String] = []
        var quotas: [String: Quota] = [:]

        func most(_ aspect: Quota.Aspect, of device: String) -> Int? {
            let usual =
                switch aspect {
                case .rate: limits.deviceRate
                case .streamRate: limits.streamRate
                case .streams: limits.streamsPerDevice
                case .newStreamsPerSecond: limits.newStreamsPerSecondPerDevice
                }
            return (quotas[device] ?? Quota())[aspect].most(usually: usual)
        }

        /// Brings what a device's streams share up to what is allowed now.
        mutating func settle(_ device: String, now: UInt64) {
            guard var entry = devices[device] else { return }
            entry.rate = Allotments.adjusted(entry.rate, to: most(.rate, of: device), now: now)
            devices[device] = entry
        }
    }

    private let state: Mutex<State>

    init(_ limits: HubLimits) {
        var state = State(limits: limits)
        state.total = Self.adjusted(nil, to: limits.totalRate, now: Clock.milliseconds)
        self.state = Mutex(state)
    }

    private static func adjusted(_ shared: SharedRate?, to rate: Int?, now: UInt64) -> SharedRate? {
        guard let rate else { return nil }
        guard let shared else { return SharedRate(rate, now: now) }
        if shared.rate != rate { shared.set(rate, now: now) }
        return shared
    }

    var running: Int { state.withLock { $0.count.running } }

    /// Counts a new stream in; false when a limit says no.
    /// - Parameter now: seconds.
    func open(device: String, now: Int64) -> Bool {
        state.withLock { state in
            if state.count.second != now {
                for device in exchange(&state.left, with: []) where state.devices[device]?.count.running == 0 {
                    state.devices[device] = nil
                }
            }
            state.count.begin(now)
            var entry = state.devices[device] ?? Device()
            entry.count.begin(now)
            guard state.count.opened < state.limits.newStreamsPerSecond, state.count.running < state.limits.streams,
                entry.count.running < state.most(.streams, of: device) ?? .max,
                entry.count.opened < state.most(.newStreamsPerSecond, of: device) ?? .max
            else { return false }
            state.count.add()
            entry.count.add()
            state.devices[device] = entry
            if entry.rate == nil { state.settle(device, now: Clock.milliseconds) }
            return true
        }
    }

    func close(device: String) {
        state.withLock { state in
            state.count.running -= 1
            state.devices[device]?.count.running -= 1
            if state.devices[device]?.count.running == 0 { state.left.append(device) }
        }
    }

    /// What a running stream of the device must keep to.
    func rates(of device: String) -> Throttle.Rates {
        state.withLock { state in
            Throttle.Rates(stream: state.most(.streamRate, of: device), device: state.devices[device]?.rate, total: state.total)
        }
    }

    // Changes; running streams are told by the caller

    func take(_ limits: HubLimits) {
        let now = Clock.milliseconds
        state.withLock { state in
            state.limits = limits
            state.total = Self.adjusted(state.total, to: limits.totalRate, now: now)
            for device in Array(state.devices.keys) { state.settle(device, now: now) }
        }
    }

    func take(_ quota: Quota, of device: String) {
        state.withLock { state in
            state.quotas[device] = quota.isUsual ? nil : quota
            state.settle(device, now: Clock.milliseconds)
        }
    }

    /// Takes all quotas anew.
    func take(_ quotas: [(device: String, quota: Quota)]) {
        let now = Clock.milliseconds
        state.withLock { state in
            state.quotas = Dictionary(quotas.map { ($0.device, $0.quota) }, uniquingKeysWith: { $1 })
            for device in Array(state.devices.keys) { state.settle(device, now: now) }
        }
    }
}

extension HubCore {
    /// Lets running streams keep to the rates of now.
    /// - Parameter device: nil: all.
    func ration(device: String? = nil) {
        for mailbox in mailboxes {
            mailbox.send { reactor in
                guard let desk = Desk.of(reactor) else { return }
                for stream in desk.streams.values where device == nil || stream.client.deviceID == device { stream.ration(on: reactor) }
            }
        }
    }

    /// Takes a device's quota as it has just been written.
    func take(_ quota: Quota, of device: String) {
        allotments.take(quota, of: device)
        ration(device: device)
    }
}
