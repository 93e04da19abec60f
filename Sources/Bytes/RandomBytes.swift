import Glibc

extension Array where Element == UInt8 {
    /// Bytes that nobody can guess, from the kernel in one call, where `UInt8.random` would ask it for each.
    package static func random(count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return [UInt8](unsafeUninitializedCapacity: count) { bytes, filled in
            filled = count
            var done = 0
            while done < count {
                let part = Swift.min(256, count - done)  // getentropy's limit
                guard getentropy(bytes.baseAddress?.advanced(by: done), part) == 0 else { break }
                done += part
            }
            for index in done..<count { bytes.initializeElement(at: index, to: generator.next()) }
        }
    }
}
