import Bytes

/// All ways to cut `count` bytes into two pieces, and the cut into single bytes.
func splits(of count: Int) -> [[Range<Int>]] {
    let single = (0..<count).map { $0..<$0 + 1 }
    return [single] + (0...count).map { [0..<$0, $0..<count].filter { !$0.isEmpty } }
}

extension String {
    /// The text's UTF-8.
    var bytes: [UInt8] { Array(utf8) }
}
