import Bytes

extension HTTPHeaders {
    /// Writes the fields and the empty line. A control byte in a value becomes a space, so no value can begin a line of its
    /// own; a field whose name is not a token is left out.
    func encode(into output: inout ByteQueue) {
        for field in fields where ASCII.isToken(field.name) {
            output.append(field.name)
            output.append(": ")
            HTTPHeaders.appendCleaned(field.value, to: &output)
            output.append("\r\n")
        }
        output.append("\r\n")
    }

    static func appendCleaned(_ text: String, to output: inout ByteQueue) {
        let before = output.count
        output.append(text)
        output.withMutableBytes(from: before) { bytes in
            for index in bytes.indices where bytes[index] < 0x20 && bytes[index] != 0x09 || bytes[index] == 0x7F { bytes[index] = 0x20 }
        }
    }
}

extension HTTPRequestHead {
    /// Writes the head with its empty line, always as HTTP/1.1.
    ///
    /// Bytes that a target cannot hold are percent-encoded; a method that is not a token is left out with what follows from
    /// it: the other side refuses the line.
    package func encode(into output: inout ByteQueue) {
        if ASCII.isToken(method) { output.append(method) }
        output.append(" ")
        let digits: StaticString = "0123456789ABCDEF"
        for byte in target.utf8 {
            if byte > 0x20, byte < 0x7F, byte != UInt8(ascii: "#") {
                output.append(byte)
            } else {
                output.append(UInt8(ascii: "%"))
                output.append(digits.utf8Start[Int(byte >> 4)])
                output.append(digits.utf8Start[Int(byte & 15)])
            }
        }
        output.append(" HTTP/1.1\r\n")
        headers.encode(into: &output)
    }
}

extension HTTPResponseHead {
    /// Writes the head with its empty line, always as HTTP/1.1.
    package func encode(into output: inout ByteQueue) {
        output.append("HTTP/1.1 ")
        output.append(String(min(max(status, 100), 999)))
        output.append(" ")
        HTTPHeaders.appendCleaned(reason ?? HTTPReason.phrase(status), to: &output)
        output.append("\r\n")
        headers.encode(into: &output)
    }

    /// Writes head and body; Content-Length is set to the body's, and left out where a status has no body (1xx, 204, 304).
    package func encode(body: RawSpan, into output: inout ByteQueue) {
        var head = self
        head.headers.remove("Transfer-Encoding")
        let bodiless = status < 200 || status == 204 || status == 304
        head.headers["Content-Length"] = bodiless ? nil : String(body.byteCount)
        head.encode(into: &output)
        if !bodiless { output.append(body) }
    }

    /// Writes head and a body of text, as above.
    package func encode(body: String, into output: inout ByteQueue) {
        encode(body: body.utf8Span.span.bytes, into: &output)
    }
}
