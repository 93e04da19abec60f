import LinuxIO
import Registry
import Synchronization
import Wire

/// Which identity is connected where. One entry to an identity: the newer connection wins (mqtt-device 6).
final class Directory: Sendable {
    /// One live MQTT connection.
    struct Presence: Sendable {
        /// Unlike a token never used again.
        let serial: UInt64
        let mailbox: Mailbox
        let token: Token
        /// Subscribed to stream requests.
        var takesStreams: Bool
        let since: Timestamp
    }

    private struct Contents: Sendable {
        /// By device, so that what happens to a device finds its modules without a look at all others.
        var present: [String: [ClientIdentity: Presence]] = [:]
        var count = 0
        /// What runs once an identity takes streams: (home reactor, stream) pairs are kept by the closures.
        var waiting: [ClientIdentity: [UInt64: @Sendable () -> Void]] = [:]
        var lastChange: [ClientIdentity: Timestamp] = [:]
        var serial: UInt64 = 0

        subscript(name: ClientIdentity) -> Presence? { present[name.deviceID]?[name] }
    }

    private let contents = Mutex(Contents())

    /// Enters a connection and returns the one it displaces.
    func enter(_ name: ClientIdentity, mailbox: Mailbox, token: Token) -> (serial: UInt64, displaced: Presence?) {
        contents.withLock { contents in
            contents.serial += 1
            let presence = Presence(serial: contents.serial, mailbox: mailbox, token: token, takesStreams: false, since: .now)
            let displaced = contents.present[name.deviceID, default: [:]].updateValue(presence, forKey: name)
            if displaced == nil { contents.count += 1 }
            return (contents.serial, displaced)
        }
    }

    /// Removes a connection, unless a newer one has taken its place.
    func leave(_ name: ClientIdentity, serial: UInt64) {
        contents.withLock { contents in
            guard contents[name]?.serial == serial else { return }
            contents.present[name.deviceID]?[name] = nil
            if contents.present[name.deviceID]?.isEmpty == true { contents.present[name.deviceID] = nil }
            contents.count -= 1
            contents.lastChange[name] = .now
        }
    }

    /// Notes whether a connection is subscribed to stream requests, and wakes who waited for that.
    func setTakesStreams(_ takes: Bool, _ name: ClientIdentity, serial: UInt64) {
        let woken = contents.withLock { contents -> [@Sendable () -> Void] in
            guard contents[name]?.serial == serial else { return [] }
            contents.present[name.deviceID]?[name]?.takesStreams = takes
            return takes ? Array((contents.waiting.removeValue(forKey: name) ?? [:]).values) : []
        }
        for wake in woken { wake() }
    }

    subscript(name: ClientIdentity) -> Presence? { contents.withLock { $0[name] } }

    /// Runs `wake` once, when the identity takes streams; at once when it does already. The number cancels it.
    func whenTakingStreams(_ name: ClientIdentity, _ wake: @escaping @Sendable () -> Void) -> UInt64 {
        let (number, isThere) = contents.withLock { contents -> (UInt64, Bool) in
            contents.serial += 1
            if contents[name]?.takesStreams == true { return (contents.serial, true) }
            contents.waiting[name, default: [:]][contents.serial] = wake
            return (contents.serial, false)
        }
        if isThere { wake() }
        return number
    }

    func cancelWaiting(_ name: ClientIdentity, _ number: UInt64) {
        contents.withLock { contents in
            contents.waiting[name]?[number] = nil
            if contents.waiting[name]?.isEmpty == true { contents.waiting[name] = nil }
        }
    }

    /// The device itself and its modules.
    func present(ofDevice device: String) -> [(ClientIdentity, Presence)] {
        contents.withLock { contents in (contents.present[device] ?? [:]).map { ($0.key, $0.value) } }
    }

    var count: Int { contents.withLock { $0.count } }

    /// What the REST documents show of a connection.
    func liveState(_ name: ClientIdentity) -> LiveState {
        contents.withLock { contents in
            var state = LiveState()
            if let presence = contents[name] {
                state.isConnected = true
                state.connectionStateUpdatedTime = presence.since
                state.lastActivityTime = presence.since
            } else if let gone = contents.lastChange[name] {
                state.connectionStateUpdatedTime = gone
                state.lastActivityTime = gone
            }
            return state
        }
    }

    /// Drops what is remembered of an identity that is no more.
    func forget(_ name: ClientIdentity) { contents.withLock { $0.lastChange[name] = nil } }
}
