/// Why WebSocket bytes were refused: RFC 6455. Text of ours only, so it may go into a log.
package enum WebSocketError: Error, Equatable, Sendable {
    case reservedBits, unknownOpcode
    /// A control frame with more than 125 bytes, or in fragments (section 5.5).
    case controlTooLong, controlFragmented
    /// A length in more bytes than it needs, or above 2^63 - 1 (section 5.2).
    case nonMinimalLength, lengthOverflow
    /// A client's frame without a mask, a server's with one (section 5.1).
    case maskMissing, maskUnexpected
    /// A continuation of nothing, or a new message inside another (section 5.4).
    case continuationUnexpected, messageInterrupted
    /// A Close of one byte, or with a code that never goes on the wire (section 7.4).
    case malformedClose
    case notUTF8

    /// The code of the Close to answer with.
    package var closeCode: UInt16 {
        switch self {
        case .notUTF8: WebSocketClose.invalidPayload
        default: WebSocketClose.protocolError
        }
    }
}

/// The codes of a Close frame: RFC 6455 section 7.4.
package enum WebSocketClose {
    package static let normal: UInt16 = 1000
    package static let goingAway: UInt16 = 1001
    package static let protocolError: UInt16 = 1002
    package static let invalidPayload: UInt16 = 1007
    package static let internalError: UInt16 = 1011

    /// Whether a code may be sent and received: 1004, 1005, 1006, 1015 and those below 1000 never are (device-streams 6.8 rule 5).
    package static func isValid(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }
}
