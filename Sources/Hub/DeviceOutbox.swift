/// Packet identifiers of what the hub has published at QoS 1 and the device has not acknowledged (MQTT 3.1.1 sections 2.3.1 and 4.4).
///
/// A message of the device's queue has the same identifier whenever and by whichever hub it is sent, made of its number in the queue, so
/// that one that comes again in a stored session comes under the identifier that the device knows. Notices have the lower half.
struct DeviceOutbox {
    /// What an acknowledgement is for.
    enum Delivery: Equatable {
        /// Nobody waits for it.
        case notice
        /// A message of the device's queue, by its number.
        case message(UInt64)
    }

    /// Unacknowledged packets at most.
    static let mostAtOnce = 256
    /// The lowest identifier of a message.
    private static let firstOfMessages: UInt16 = 0x8000

    private var lastID: UInt16 = 0
    private var deliveries: [UInt16: Delivery] = [:]

    /// An identifier to send under, and whether the same was sent under it before; nil while too much is unacknowledged, or another message
    /// has the identifier.
    mutating func send(_ delivery: Delivery) -> (id: UInt16, isAgain: Bool)? {
        switch delivery {
        case .message(let number):
            let id = Self.firstOfMessages | UInt16(truncatingIfNeeded: number)
            if let other = deliveries[id] { return other == delivery ? (id, true) : nil }
            guard deliveries.count < Self.mostAtOnce else { return nil }
            deliveries[id] = delivery
            return (id, false)
        case .notice:
            guard deliveries.count < Self.mostAtOnce else { return nil }
            repeat { lastID = lastID >= Self.firstOfMessages - 1 ? 1 : lastID + 1 } while deliveries[lastID] != nil
            deliveries[lastID] = delivery
            return (lastID, false)
        }
    }

    /// What was acknowledged; nil when nothing has this identifier.
    mutating func acknowledged(_ id: UInt16) -> Delivery? { deliveries.removeValue(forKey: id) }
}
