import Bytes
import FuzzSupport
import Wire

private func verdict<Value: Equatable>(
    _ parse: () throws(HTTPError) -> Parsed<Value>
) -> (verdict: Verdict<Value>, wanted: Int) {
    do {
        switch try parse() {
        case .needMoreData(let total): return (.more, total)
        case .complete(let value, let consumed): return (.value(value, consumed: consumed), 0)
        }
    } catch {
        return (.refused(error.description), 0)
    }
}

private func fuzzBody(_ decoder: HTTPBodyDecoder, _ input: inout FuzzInput) {
    func run(_ pieces: [Range<Int>]) -> (body: [UInt8], consumed: Int, end: String) {
        var decoder = decoder
        var body = ByteQueue()
        var consumed = 0
        for piece in pieces {
            do {
                let result = try decoder.decode(input.bytes.span.bytes.extracting(piece), into: &body)
                check(result.consumed == piece.count || result.isFinished, "everything is consumed until the end")
                consumed += result.consumed
                if result.isFinished { return (body.toArray(), consumed, "finished") }
            } catch {
                return ([], 0, error.description)
            }
        }
        return (body.toArray(), consumed, decoder.isFinished ? "finished" : "more")
    }
    let whole = run([0..<input.bytes.count])
    let split = run(input.pieces())
    check(whole == split, "a body is the same in pieces")
    check(whole.body.count <= 1000, "a body keeps its limit")
}

@main
enum HTTPFuzz {
    static func main() {
        runFuzzer(fuzzHTTP)
    }
}

private func fuzzHTTP(_ input: inout FuzzInput) {
    var limits = HTTPLimits.standard
    if input.number(below: 4) == 0 {
        limits.headBytes = 64
        limits.startLineBytes = 24
        limits.headerCount = 3
    }

    let request = checkSplits(of: &input) { bytes in
        verdict { () throws(HTTPError) in try HTTPRequestHead.parse(bytes, limits: limits) }
    }
    if case .value(var head, _) = request {
        _ = (head.path, head.pathSegments, head.queryItems, head.host, head.keepsAlive, head.expectsContinue)
        check((try? HTTPBodyDecoder.forRequest(head, limit: .max)) != nil, "an accepted head has a body that can be read")
        _ = WebSocketHandshake.judge(head)
        var output = ByteQueue()
        head.encode(into: &output)
        let again = verdict { () throws(HTTPError) in try output.withBytes { bytes throws(HTTPError) in try HTTPRequestHead.parse(bytes) } }
        if head.minorVersion > 0 {  // 1.0 may lack the Host that 1.1 needs
            head.minorVersion = 1
            check(again.verdict == .value(head, consumed: output.count), "what was read and written is read the same")
        }
    }

    let response = checkSplits(of: &input) { bytes in
        verdict { () throws(HTTPError) in try HTTPResponseHead.parse(bytes, limits: limits) }
    }
    if case .value(var head, _) = response {
        _ = try? WebSocketHandshake.check(head, key: "MDEyMzQ1Njc4OWFiY2RlZg==")
        check((try? HTTPBodyDecoder.forResponse(head, toMethod: "GET", limit: .max)) != nil, "an accepted head has a body that can be read")
        var output = ByteQueue()
        head.encode(into: &output)
        let again = verdict { () throws(HTTPError) in try output.withBytes { bytes throws(HTTPError) in try HTTPResponseHead.parse(bytes) }
        }
        if head.minorVersion > 0 {
            head.minorVersion = 1
            check(again.verdict == .value(head, consumed: output.count), "what was read and written is read the same")
        }
    }

    for framing in [HTTPFraming.chunked, .length(min(input.bytes.count, 700)), .untilClose] {
        if let decoder = try? HTTPBodyDecoder(framing, limit: 1000) { fuzzBody(decoder, &input) }
    }
    fuzzText(input.bytes)
}

/// Percent-encoding, hosts and stream URLs: what is written is read the same.
private func fuzzText(_ bytes: [UInt8]) {
    for safe in [PercentCoding.SafeSet.unreserved, .streamURL] {
        let encoded = PercentCoding.encode(bytes.span.bytes, leaving: safe)
        check(PercentCoding.decodeBytes(encoded.utf8Span.span.bytes) == bytes, "encoding is undone by decoding")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else { return }
    _ = PercentCoding.decode(text)
    if let place = HostPort(parsing: text) { check(HostPort(parsing: place.description) == place, "a host is read as it is written") }
    if let url = StreamURL(parsing: text, allowPlain: true) {
        check(StreamURL(parsing: url.description, portRequired: true, allowPlain: true) == url, "a URL is read as it is written")
    }
}
