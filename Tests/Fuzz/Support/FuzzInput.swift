import Bytes

/// One input of a fuzzer, and places to cut it that depend on nothing but its bytes, so that a finding can be repeated.
package struct FuzzInput {
    package let bytes: [UInt8]
    private var random: UInt64

    package init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
        bytes = Array(UnsafeBufferPointer(start: start, count: count))
        random = bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }

    package init(_ bytes: [UInt8]) {
        self.init(bytes, bytes.count)
    }

    /// A number below `limit`, which is above 0.
    package mutating func number(below limit: Int) -> Int {
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((random >> 33) % UInt64(limit))
    }

    /// The input in pieces, none of them empty: mostly a few bytes, sometimes many.
    package mutating func pieces() -> [Range<Int>] {
        var pieces: [Range<Int>] = []
        var start = 0
        while start < bytes.count {
            let length = number(below: 4) == 0 ? 1 + number(below: bytes.count - start) : 1 + number(below: min(8, bytes.count - start))
            pieces.append(start..<start + length)
            start += length
        }
        return pieces
    }
}

/// What a call came to: a value that can be compared, or the error in words.
package enum Verdict<Value: Equatable>: Equatable {
    case more
    case value(Value, consumed: Int)
    case refused(String)
}

/// Ends the run with a finding when a rule does not hold.
package func check(_ holds: Bool, _ rule: String, line: Int = #line) {
    if !holds { fatalError("rule broken at line \(line): \(rule)") }
}

/// Checks that a parser gives one verdict for the whole input and for the input as it grows piece by piece: it asks for more until
/// there is enough, what it asks for is more than it has, and what it decided once is what it decides with all bytes at hand.
///
/// Returns the verdict on the whole.
package func checkSplits<Value: Equatable>(
    of input: inout FuzzInput, _ parse: (RawSpan) -> (verdict: Verdict<Value>, wanted: Int)
) -> Verdict<Value> {
    let bytes = input.bytes
    let whole = parse(bytes.span.bytes)
    for end in [0] + input.pieces().map(\.upperBound) {
        let (verdict, wanted) = parse(bytes.span.bytes.extracting(0..<end))
        if verdict == .more {
            check(wanted > end, "a wish for more names more than there is")
            check(end < bytes.count || whole.verdict == .more, "the whole asks for more, or the last piece decides")
            if case .value(_, let consumed) = whole.verdict { check(wanted <= consumed, "the wish is not beyond the end") }
        } else {
            check(verdict == whole.verdict, "the verdict of a part is the verdict of the whole")
            if case .value(_, let consumed) = verdict { check(consumed <= end, "nothing is consumed that was not there") }
            return whole.verdict
        }
    }
    return whole.verdict
}
