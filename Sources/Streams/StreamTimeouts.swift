import Wire

/// The two timeout headers of a request for a stream (device-streams 3.2).
package enum StreamTimeouts {
    package static let connectHeader = "iothub-streaming-connect-timeout-in-seconds"
    package static let responseHeader = "iothub-streaming-response-timeout-in-seconds"

    /// Absent connect: 0, the device must be there now. Absent response: 60 s. Both are clamped to 300 s; nil for a text
    /// that is no number or negative.
    package static func parse(_ headers: HTTPHeaders) -> StreamSession.Patience? {
        guard let connect = milliseconds(headers[connectHeader], absent: 0),
            let response = milliseconds(headers[responseHeader], absent: 60_000)
        else { return nil }
        return StreamSession.Patience(connect: connect, response: response)
    }

    /// A decimal number of seconds with a dot if any, as milliseconds.
    private static func milliseconds(_ text: String?, absent: UInt64) -> UInt64? {
        guard let text else { return absent }
        let allowed = text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }
        guard allowed, text.utf8.count <= 32, let seconds = Double(text), seconds.isFinite, seconds >= 0 else { return nil }
        return UInt64(min(seconds, 300) * 1000)
    }
}
