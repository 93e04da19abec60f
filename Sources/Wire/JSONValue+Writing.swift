import Bytes

/// How JSON is laid out.
package enum JSONStyle: Sendable {
    /// No white space.
    case compact
    /// Two spaces to a level, a line to a member.
    case pretty
}

extension JSONValue {
    /// The document as UTF-8, without a line break at its end. Doubles that JSON cannot say (infinite, not a number) become null.
    /// - Parameter sorted: members in the order of their names instead of their own.
    package func write(to queue: inout ByteQueue, style: JSONStyle = .compact, sorted: Bool = false) {
        write(to: &queue, style: style, sorted: sorted, level: 0)
    }

    /// The document as text.
    package func text(style: JSONStyle = .compact, sorted: Bool = false) -> String {
        String(decoding: bytes(style: style, sorted: sorted), as: UTF8.self)
    }

    /// The document as UTF-8 bytes.
    package func bytes(style: JSONStyle = .compact, sorted: Bool = false) -> [UInt8] {
        var queue = ByteQueue()
        write(to: &queue, style: style, sorted: sorted)
        return queue.toArray()
    }

    private func write(to queue: inout ByteQueue, style: JSONStyle, sorted: Bool, level: Int) {
        switch self {
        case .null: queue.append("null")
        case .bool(let value): queue.append(value ? "true" : "false")
        case .integer(let value): queue.append(String(value))
        case .double(let value): queue.append(value.isFinite ? value.description : "null")
        case .string(let value): Self.write(value, to: &queue)
        case .array(let elements):
            queue.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { queue.append(UInt8(ascii: ",")) }
                Self.breakLine(in: &queue, style: style, level: level + 1)
                element.write(to: &queue, style: style, sorted: sorted, level: level + 1)
            }
            if !elements.isEmpty { Self.breakLine(in: &queue, style: style, level: level) }
            queue.append(UInt8(ascii: "]"))
        case .object(let object):
            queue.append(UInt8(ascii: "{"))
            let members = sorted ? object.sorted { $0.key < $1.key } : Array(object)
            for (index, member) in members.enumerated() {
                if index > 0 { queue.append(UInt8(ascii: ",")) }
                Self.breakLine(in: &queue, style: style, level: level + 1)
                Self.write(member.key, to: &queue)
                queue.append(style == .pretty ? ": " : ":")
                member.value.write(to: &queue, style: style, sorted: sorted, level: level + 1)
            }
            if !members.isEmpty { Self.breakLine(in: &queue, style: style, level: level) }
            queue.append(UInt8(ascii: "}"))
        }
    }

    private static func breakLine(in queue: inout ByteQueue, style: JSONStyle, level: Int) {
        guard style == .pretty else { return }
        queue.append(UInt8(ascii: "\n"))
        queue.append(repeatElement(UInt8(ascii: " "), count: 2 * level))
    }

    private static func write(_ text: String, to queue: inout ByteQueue) {
        queue.append(UInt8(ascii: "\""))
        let bytes = text.utf8Span.span.bytes
        var plainFrom = 0
        for place in 0..<bytes.byteCount {
            let code = bytes.byte(at: place)
            guard code < 0x20 || code == UInt8(ascii: "\"") || code == UInt8(ascii: "\\") else { continue }
            queue.append(bytes.extracting(plainFrom..<place))
            plainFrom = place + 1
            switch code {
            case UInt8(ascii: "\""): queue.append("\\\"")
            case UInt8(ascii: "\\"): queue.append("\\\\")
            case UInt8(ascii: "\n"): queue.append("\\n")
            case UInt8(ascii: "\r"): queue.append("\\r")
            case UInt8(ascii: "\t"): queue.append("\\t")
            default: queue.append("\\u00" + Hex.encode(CollectionOfOne(code)))
            }
        }
        queue.append(bytes.extracting(plainFrom..<bytes.byteCount))
        queue.append(UInt8(ascii: "\""))
    }
}
