import LinuxIO
import Registry
import Synchronization
import Wire

/// What a connected identity has subscribed to, and so can be asked.
struct DeviceInterests: OptionSet, Sendable {
    let rawValue: UInt8

    static let streams = DeviceInterests(rawValue: 1)
    static let methods = DeviceInterests(rawValue: 2)
}

/// Which identity is connected where. One entry to an identity: the newer connection wins (mqtt-device 6).
final class Directory: Sendable {
    /// One live MQTT connection.
    struct Presence: Sendable {
        /// Unlike a token never used again.
        let serial: UInt64
        let mailbox: Mailbox
        let token: Token
        var interests: DeviceInterests
        /// How the identity proved itself.
        let method: DevicePrincipal.Method
        let since: Timestamp
    }

    private struct Contents: Sendable {
        /// By device, so that what happens to a device finds its modules without a look at all others.
        var present: [String: [ClientIdentity: Presence]] = [:]
        var count = 0
        /// What runs once an identity can be asked something.
        var waiting: [ClientIdentity: [UInt64: (interest: DeviceInterests, wake: @Sendable () -> Void)]] = [:]
        var lastChange: [ClientIdentity: Timestamp] = [:]
        var serial: UInt64 = 0

        subscript(name: ClientIdentity) -> Presence? { present[name.deviceID]?[name] }
    }

    private let contents = Mutex(Contents())

    /// Enters a connection and returns the one it displaces.
    func enter(
        _ name: ClientIdentity, by method: DevicePrincipal.Method, mailbox: Mailbox, token: Token
    ) -> (serial: UInt64, displaced: Presence?) {
        contents.withLock { contents in
            contents.serial += 1
            let presence = Presence(
                serial: contents.serial, mailbox: mailbox, token: token, interests: [], method: method, since: .now)
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

    /// Notes what a connection is subscribed to, and wakes who waited for that.
    func setInterests(_ interests: DeviceInterests, of name: ClientIdentity, serial: UInt64) {
        let woken = contents.withLock { contents -> [@Sendable () -> Void] in
            guard let presence = contents[name], presence.serial == serial else { return [] }
            contents.present[name.deviceID]?[name]?.interests = interests
            guard let waiting = contents.waiting[name] else { return [] }
            let rest = waiting.filter { !interests.contains($0.value.interest) }
            contents.waiting[name] = rest.isEmpty ? nil : rest
            return waiting.values.filter { interests.contains($0.interest) }.map(\.wake)
        }
        for wake in woken { wake() }
    }

    subscript(name: ClientIdentity) -> Presence? { contents.withLock { $0[name] } }

    /// Runs `wake` once, when the identity can be asked; at once when it can already. The number cancels it.
    func when(_ interest: DeviceInterests, of name: ClientIdentity, _ wake: @escaping @Sendable () -> Void) -> UInt64 {
        let (number, isThere) = contents.withLock { contents -> (UInt64, Bool) in
            contents.serial += 1
            if contents[name]?.interests.contains(interest) == true { return (contents.serial, true) }
            contents.waiting[name, default: [:]][contents.serial] = (interest, wake)
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
