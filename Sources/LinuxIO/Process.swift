import CLinux
import Glibc

/// What a process does to itself at its start.
package enum Process {
    /// The words this process was started with, the program's own first.
    ///
    /// Not `CommandLine.arguments`: that looks for them beside the environment, and finds none where a preloaded library has
    /// changed the environment before the program began.
    package static var arguments: [String] {
        var words: [String] = []
        while let word = clx_argument(CInt(words.count)) { words.append(String(cString: word)) }
        return words
    }

    /// Raises the soft limit of descriptors to the hard one.
    package static func raiseDescriptorLimit() { clx_raise_descriptor_limit() }

    /// No core dump and no debugger of the same user: secrets stay in memory.
    package static func harden() { clx_harden_process() }

    /// Gives free memory back to the system: the allocator keeps what a burst of work has needed.
    package static func releaseFreeMemory() { clx_trim_heap() }

    /// Gives back the pages of code that only the start needed. The kernel maps code in runs of 16 pages around each one
    /// touched; what is still wanted comes back from the page cache at the next touch.
    ///
    /// Only code: read-only data may hold relocated pointers, which a dropped page would lose.
    package static func releaseStartUpCode() {
        guard let maps = try? Files.read("/proc/self/maps") else { return }
        for line in maps.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: UInt8(ascii: " "))
            guard fields.count >= 6, fields[1].elementsEqual("r-xp".utf8), fields[5].first == UInt8(ascii: "/") else { continue }
            let bounds = fields[0].split(separator: UInt8(ascii: "-")).compactMap { UInt(String(decoding: $0, as: UTF8.self), radix: 16) }
            guard bounds.count == 2, bounds[0] < bounds[1] else { continue }
            madvise(UnsafeMutableRawPointer(bitPattern: bounds[0]), Int(bounds[1] - bounds[0]), MADV_DONTNEED)
        }
    }
}
