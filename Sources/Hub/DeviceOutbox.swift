/// Packet identifiers of what the hub has published at QoS 1 and the device has not acknowledged (MQTT 3.1.1 section 2.3.1).
struct DeviceOutbox {
    /// What an acknowledgement is for.
    enum Delivery {
        /// Nobody waits for it.
        case notice
        /// A message of the device's queue, by its number.
        case message(UInt64)
    }

    /// Unacknowledged packets at most.
    static let mostAtOnce = 256

    private var lastID: UInt16 = 0
    private var deliveries: [UInt16: Delivery] = [:]

    /// An identifier that is free; nil while too much is unacknowledged.
    mutating func send(_ delivery: Delivery) -> UInt16? {
        guard deliveries.count < Self.mostAtOnce else { return nil }
        repeat { lastID = lastID == .max ? 1 : lastID + 1 } while deliveries[lastID] != nil
        deliveries[lastID] = delivery
        return lastID
    }

    /// What was acknowledged; nil when nothing has this identifier.
    mutating func acknowledged(_ id: UInt16) -> Delivery? { deliveries.removeValue(forKey: id) }
}
