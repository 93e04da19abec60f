import Glibc

/// A system call that failed: which one (its manual's name) and the error number.
public struct SystemError: Error, Equatable, CustomStringConvertible {
    package let call: String
    package let number: CInt

    /// Takes the thread's `errno`.
    package init(_ call: String) { self.init(call, errno) }

    package init(_ call: String, _ number: CInt) {
        self.call = call
        self.number = number
    }

    /// The error's text without the call: `connection refused`.
    package var reason: String {
        var text = [CChar](repeating: 0, count: 128)
        guard strerror_r(number, &text, text.count) == 0 else { return "error \(number)" }
        let words = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let first = words.first, !words.hasPrefix("RF"), words.dropFirst().first?.isUppercase != true else { return words }
        return first.lowercased() + words.dropFirst()
    }

    /// Call and reason in one line.
    public var description: String { "\(call): \(reason)" }
}

/// A result of CLinux: not negative, or `-errno`.
@discardableResult
package func checked(_ result: CInt, _ call: String) throws(SystemError) -> CInt {
    guard result >= 0 else { throw SystemError(call, -result) }
    return result
}
