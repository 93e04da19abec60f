import Bytes

/// What arrived on a WebSocket. Ranges are places in the buffer that was given to the receiver.
package enum WebSocketEvent: Equatable, Sendable {
    /// A data frame begins: text or binary, or a continuation of the message before; `length` bytes of payload follow.
    case dataBegin(WebSocketOpcode, fin: Bool, length: Int)
    /// Payload of that frame, unmasked in place unless the receiver leaves that to others. With `WebSocketReceiver.remaining` at 0 it was the frame's last.
    case payload(Range<Int>)
    /// A ping, to be answered with a pong of the same payload, or a pong. At most 125 bytes.
    case control(WebSocketOpcode, [UInt8])
    /// A Close; both empty when it said nothing. Whatever follows it is read over.
    case close(code: UInt16?, reason: String)
}

/// Follows the frames of one direction through any split of the bytes, without holding any message.
///
/// Give it each piece once and take events until there are none: every byte is consumed.
///
///     var position = 0
///     while let event = try receiver.next(in: buffer, at: &position) { … }
///
/// Small state is kept between pieces: a header that came in parts, and the payload of a control frame.
package struct WebSocketReceiver: Sendable {
    private enum State {
        case header
        case data
        case control(WebSocketOpcode)
        case closed
    }

    private let role: WebSocketRole
    private let unmasks: Bool
    private var state = State.header
    /// Inside a fragmented message.
    private var isFragmented = false
    /// The bytes of a header that is not complete yet.
    private var partial = InlineArray<14, UInt8>(repeating: 0)
    private var partialCount = 0
    private var key: UInt32 = 0
    /// Payload bytes of the frame that have passed.
    private var passed = 0
    private var controlPayload: [UInt8] = []

    /// Payload bytes of the frame, data or control, that are still to come.
    private var left = 0

    /// Payload bytes of the current data frame that are still to come; 0 between frames.
    package var remaining: Int {
        if case .data = state { left } else { 0 }
    }

    /// The key that belongs to the first byte of the payload that was last told of; 0 when it is not masked.
    package private(set) var payloadKey: UInt32 = 0

    /// - Parameters:
    ///   - role: which end we are.
    ///   - unmasks: false for an owner that unmasks data itself, by `payloadKey`, on its way elsewhere.
    package init(role: WebSocketRole, unmasks: Bool = true) {
        self.role = role
        self.unmasks = unmasks
    }

    /// Whether a Close was received; nothing follows it.
    package var isClosed: Bool {
        if case .closed = state { true } else { false }
    }

    /// Whether the bytes so far end with a frame and a message: the only place where an end of input cuts nothing.
    package var isBetweenMessages: Bool {
        if case .header = state { partialCount == 0 && !isFragmented } else { false }
    }

    /// The next event in `buffer` from `position` on, or nil when it has been consumed to its end.
    ///
    /// Payload bytes are unmasked in place. After an error the receiver is of no more use: answer with its `closeCode` and end.
    package mutating func next(
        in buffer: UnsafeMutableRawBufferPointer, at position: inout Int
    ) throws(WebSocketError) -> WebSocketEvent? {
        while position < buffer.count {
            switch state {
            case .header:
                guard let header = try header(in: buffer, at: &position) else { return nil }
                if let event = try begin(header) { return event }
            case .data:
                let range = position..<position + min(left, buffer.count - position)
                if unmasks {
                    unmask(buffer, range)
                } else {
                    payloadKey = WebSocketMask.turned(key, by: passed)
                    pass(range.count)
                }
                position = range.upperBound
                if left == 0 { state = .header }
                return .payload(range)
            case .control(let opcode):
                let range = position..<position + min(left, buffer.count - position)
                unmask(buffer, range)
                position = range.upperBound
                controlPayload.append(contentsOf: buffer[range])
                if left == 0 { return try endControl(opcode) }
            case .closed:
                position = buffer.count
            }
        }
        return nil
    }

    private mutating func unmask(_ buffer: UnsafeMutableRawBufferPointer, _ range: Range<Int>) {
        if key != 0 { WebSocketMask.apply(UnsafeMutableRawBufferPointer(rebasing: buffer[range]), key: key, offset: passed) }
        pass(range.count)
    }

    private mutating func pass(_ count: Int) {
        passed += count
        left -= count
    }

    private mutating func header(
        in buffer: UnsafeMutableRawBufferPointer, at position: inout Int
    ) throws(WebSocketError) -> WebSocketFrameHeader? {
        let rest = UnsafeRawBufferPointer(rebasing: buffer[position...])
        if partialCount == 0 {
            switch try WebSocketFrameHeader.parse(rest.bytes, role: role) {
            case .complete(let header, let consumed):
                position += consumed
                return header
            case .needMoreData:
                for index in rest.indices { partial[index] = rest[index] }  // fewer than a whole header, so they fit
                partialCount = rest.count
                position = buffer.count
                return nil
            }
        }
        while position < buffer.count {
            partial[partialCount] = buffer[position]
            partialCount += 1
            position += 1
            let seen = partial.span.bytes.extracting(0..<partialCount)
            if case .complete(let header, _) = try WebSocketFrameHeader.parse(seen, role: role) {
                partialCount = 0
                return header
            }
        }
        return nil
    }

    /// Begins a frame; an event at once for data, and for control frames without payload.
    private mutating func begin(_ header: WebSocketFrameHeader) throws(WebSocketError) -> WebSocketEvent? {
        key = header.maskKey ?? 0
        passed = 0
        if header.opcode.isControl {
            left = header.payloadLength
            controlPayload.removeAll()
            state = .control(header.opcode)
            return left == 0 ? try endControl(header.opcode) : nil
        }
        if header.opcode == .continuation {
            guard isFragmented else { throw .continuationUnexpected }
        } else {
            guard !isFragmented else { throw .messageInterrupted }
        }
        isFragmented = !header.fin
        left = header.payloadLength
        state = left > 0 ? .data : .header
        return .dataBegin(header.opcode, fin: header.fin, length: header.payloadLength)
    }

    private mutating func endControl(_ opcode: WebSocketOpcode) throws(WebSocketError) -> WebSocketEvent {
        state = .header
        let payload = controlPayload
        controlPayload = []
        guard opcode == .close else { return .control(opcode, payload) }
        state = .closed
        guard payload.count != 1 else { throw .malformedClose }
        guard payload.count >= 2 else { return .close(code: nil, reason: "") }
        let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
        guard WebSocketClose.isValid(code) else { throw .malformedClose }
        guard let reason = String(validating: payload[2...], as: UTF8.self) else { throw .notUTF8 }
        return .close(code: code, reason: reason)
    }
}
