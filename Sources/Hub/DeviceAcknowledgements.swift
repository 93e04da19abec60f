/// The PUBACKs that a device waits for, which go out in the order of its PUBLISHes whatever is done first (MQTT 3.1.1 section 4.6).
struct DeviceAcknowledgements {
    /// Publishes that may be worked on at once; then nothing is read from the device.
    static let mostAtOnce = 256

    /// Names one publish.
    struct Ticket: Sendable { fileprivate let number: UInt64 }

    private var waiting: [(packetID: UInt16?, isDone: Bool)] = []
    /// The number of the first of `waiting`.
    private var first: UInt64 = 0

    var isFull: Bool { waiting.count >= Self.mostAtOnce }

    /// Counts a publish in; at QoS 0 it is counted but not answered.
    mutating func expect(_ packetID: UInt16?) -> Ticket {
        waiting.append((packetID, false))
        return Ticket(number: first &+ UInt64(waiting.count - 1))
    }

    /// Publishes are done with: what may be acknowledged now, in order.
    mutating func finish(_ tickets: [Ticket]) -> [UInt16] {
        for ticket in tickets {
            let place = Int(truncatingIfNeeded: ticket.number &- first)
            if waiting.indices ~= place { waiting[place].isDone = true }
        }
        let ready = waiting.prefix { $0.isDone }
        waiting.removeFirst(ready.count)
        first &+= UInt64(ready.count)
        return ready.compactMap(\.packetID)
    }
}
