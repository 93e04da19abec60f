extension StringProtocol {
    /// Whether `text` stands somewhere in it, byte for byte. (The library's own `contains` brings in the whole of regular expressions,
    /// more than a megabyte.)
    package func contains(text: some StringProtocol) -> Bool {
        let (bytes, wanted) = (Array(utf8), Array(text.utf8))
        guard wanted.count <= bytes.count else { return false }
        return (0...(bytes.count - wanted.count)).contains { bytes[$0..<($0 + wanted.count)].elementsEqual(wanted) }
    }
}
