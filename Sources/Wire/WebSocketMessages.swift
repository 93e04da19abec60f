import Bytes

/// Puts whole messages together, for control conversations whose messages are small. Streams use the receiver itself.
package struct WebSocketMessages: Sendable {
    package enum Event: Equatable, Sendable {
        case text(String)
        case binary([UInt8])
        /// A ping, to be answered with a pong of the same payload, or a pong.
        case control(WebSocketOpcode, [UInt8])
        case close(code: UInt16?, reason: String)
    }

    private var receiver: WebSocketReceiver
    private let limit: Int
    private var message: [UInt8] = []
    private var isText = false
    private var isLast = false

    package init(role: WebSocketRole, limits: WebSocketLimits = .standard) {
        receiver = WebSocketReceiver(role: role, limits: limits)
        limit = limits.messageBytes
    }

    /// Whether a Close was received; nothing follows it.
    package var isClosed: Bool { receiver.isClosed }

    /// The next event in `buffer` from `position` on, or nil when it has been consumed to its end. Works on the buffer in place.
    ///
    /// Text that is not UTF-8 is `notUTF8`, a message above the limit `tooLarge`.
    package mutating func next(
        in buffer: UnsafeMutableRawBufferPointer, at position: inout Int
    ) throws(WebSocketError) -> Event? {
        while let event = try receiver.next(in: buffer, at: &position) {
            switch event {
            case .dataBegin(let opcode, let fin, let length):
                guard length <= limit - message.count else { throw .tooLarge }
                if opcode != .continuation { isText = opcode == .text }
                isLast = fin
            case .payload(let range): message.append(contentsOf: buffer[range])
            case .control(let opcode, let payload): return .control(opcode, payload)
            case .close(let code, let reason): return .close(code: code, reason: reason)
            }
            if isLast, receiver.remaining == 0 { return try endMessage() }
        }
        return nil
    }

    private mutating func endMessage() throws(WebSocketError) -> Event {
        let bytes = message
        message = []
        isLast = false
        guard isText else { return .binary(bytes) }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .notUTF8 }
        return .text(text)
    }
}
