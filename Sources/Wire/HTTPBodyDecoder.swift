import Bytes

/// Takes the body out of the bytes that follow a head: RFC 9112 sections 6 and 7. Trailers are read over and dropped.
package struct HTTPBodyDecoder: Sendable {
    private enum State: Equatable {
        case counted(Int)
        case untilClose
        /// Chunk size: digits seen, value so far.
        case size(digits: Int, value: Int)
        case chunkExtension(size: Int)
        case sizeLineFeed(size: Int)
        case data(Int)
        case dataReturn, dataLineFeed
        /// In the trailers; `line` is the bytes of this line so far.
        case trailer(line: Int)
        case trailerLineFeed(line: Int)
        case finished
    }

    private var state: State
    /// Body bytes that may still come.
    private var allowance: Int
    /// Bytes of chunk extensions and trailers that may still come.
    private var overhead = 8 * 1024

    /// - Parameter limit: the longest body accepted, in bytes; a longer one, announced or arriving, is `bodyTooLarge`.
    package init(_ framing: HTTPFraming, limit: Int) throws(HTTPError) {
        allowance = max(0, limit)
        switch framing {
        case .none: state = .finished
        case .length(let length):
            guard length <= limit else { throw .bodyTooLarge }
            state = length > 0 ? .counted(length) : .finished
        case .chunked: state = .size(digits: 0, value: 0)
        case .untilClose: state = .untilClose
        }
    }

    /// For the body of a request.
    package static func forRequest(_ head: HTTPRequestHead, limit: Int) throws(HTTPError) -> HTTPBodyDecoder {
        try HTTPBodyDecoder(head.headers.framing(minorVersion: head.minorVersion), limit: limit)
    }

    /// For the body of the response to a request of `method`: HEAD, 1xx, 204, 304 and a 2xx to CONNECT have none.
    package static func forResponse(
        _ head: HTTPResponseHead, toMethod method: String, limit: Int
    ) throws(HTTPError) -> HTTPBodyDecoder {
        let bodiless = method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304
        if bodiless || (method == "CONNECT" && head.status < 300) { return try HTTPBodyDecoder(.none, limit: limit) }
        let framing = try head.headers.framing(minorVersion: head.minorVersion)
        return try HTTPBodyDecoder(framing == .none ? .untilClose : framing, limit: limit)
    }

    /// Whether the body is complete. A body that ends with its connection never is: see `endOfInput`.
    package var isFinished: Bool { state == .finished }

    /// The connection has ended: well for a body that ends with it or was complete, `truncatedBody` for any other.
    package mutating func endOfInput() throws(HTTPError) {
        guard state == .untilClose || state == .finished else { throw .truncatedBody }
        state = .finished
    }

    /// Takes what it can from the start of `bytes` and appends the body's part of it to `body`.
    ///
    /// Consumes everything until the body is complete; what is left then belongs to the next message.
    package mutating func decode(
        _ bytes: RawSpan, into body: inout ByteQueue
    ) throws(HTTPError) -> (consumed: Int, isFinished: Bool) {
        var position = 0
        while position < bytes.byteCount, state != .finished {
            switch state {
            case .counted(let left):
                let taken = min(left, bytes.byteCount - position)
                body.append(bytes.extracting(position..<position + taken))
                position += taken
                state = taken == left ? .finished : .counted(left - taken)
            case .untilClose:
                let rest = bytes.byteCount - position
                guard rest <= allowance else { throw .bodyTooLarge }
                allowance -= rest
                body.append(bytes.extracting(position..<bytes.byteCount))
                position = bytes.byteCount
            case .data(let left):
                let taken = min(left, bytes.byteCount - position)
                body.append(bytes.extracting(position..<position + taken))
                position += taken
                state = taken == left ? .dataReturn : .data(left - taken)
            default:
                try step(bytes.byte(at: position))
                position += 1
            }
        }
        return (position, state == .finished)
    }

    /// One byte of the chunked coding's own.
    private mutating func step(_ byte: UInt8) throws(HTTPError) {
        switch state {
        case .size(let digits, let value):
            if let digit = ASCII.hexValue(byte) {
                guard digits < 15 else { throw .bodyTooLarge }
                let value = value << 4 | Int(digit)
                guard value <= allowance else { throw .bodyTooLarge }
                state = .size(digits: digits + 1, value: value)
                return
            }
            guard digits > 0 else { throw .malformedChunk }
            try sizeLine(byte, size: value, atDigits: true)
        case .chunkExtension(let size): try sizeLine(byte, size: size, atDigits: false)
        case .sizeLineFeed(let size):
            guard byte == 0x0A else { throw .malformedChunk }
            allowance -= size
            state = size > 0 ? .data(size) : .trailer(line: 0)
        case .dataReturn:
            guard byte == 0x0D else { throw .malformedChunk }
            state = .dataLineFeed
        case .dataLineFeed:
            guard byte == 0x0A else { throw .malformedChunk }
            state = .size(digits: 0, value: 0)
        case .trailer(let line):
            if byte == 0x0D {
                state = .trailerLineFeed(line: line)
                return
            }
            try spendOverhead(byte)
            state = .trailer(line: line + 1)
        case .trailerLineFeed(let line):
            guard byte == 0x0A else { throw .malformedChunk }
            state = line == 0 ? .finished : .trailer(line: 0)
        case .counted, .untilClose, .data, .finished: break
        }
    }

    /// What follows the digits of a chunk size: blanks and a semicolon begin an extension, CR ends the line.
    private mutating func sizeLine(_ byte: UInt8, size: Int, atDigits: Bool) throws(HTTPError) {
        if byte == 0x0D {
            state = .sizeLineFeed(size: size)
            return
        }
        guard !atDigits || byte == UInt8(ascii: ";") || byte == 0x20 || byte == 0x09 else { throw .malformedChunk }
        try spendOverhead(byte)
        state = .chunkExtension(size: size)
    }

    private mutating func spendOverhead(_ byte: UInt8) throws(HTTPError) {
        guard byte >= 0x20 && byte != 0x7F || byte == 0x09, overhead > 0 else { throw .malformedChunk }
        overhead -= 1
    }
}
