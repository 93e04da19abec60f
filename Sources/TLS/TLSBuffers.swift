import CLinux
import COpenSSL
import Glibc
import Synchronization

/// Where OpenSSL gets its larger buffers from. A session takes one for each handshake and for each burst of bytes, and gives it back when
/// it falls silent; from the heap, each time a little of it would be taken by something that stays, so that the next one needs a new place, and a process
/// with many silent sessions would be half holes. A few buffers of each size are kept here instead, and go round.
package enum TLSBuffers {
    /// A size of buffers, the sizes that it serves, and what is kept of it.
    private struct Shelf: ~Copyable {
        let serves: ClosedRange<Int>
        let most: Int
        private let kept: Mutex<[UInt]>  // addresses

        init(_ serves: ClosedRange<Int>, most: Int) {
            self.serves = serves
            self.most = most
            var room: [UInt] = []
            room.reserveCapacity(most)
            kept = Mutex(room)
        }

        func take() -> UnsafeMutableRawPointer? {
            if let address = kept.withLock({ $0.popLast() }) { return UnsafeMutableRawPointer(bitPattern: address) }
            return malloc(serves.upperBound)
        }

        /// Whether it was taken in.
        func put(_ buffer: UnsafeMutableRawPointer) -> Bool {
            kept.withLock { kept in
                guard kept.count < most else { return false }
                kept.append(UInt(bitPattern: buffer))
                return true
            }
        }
    }

    /// One record with all that OpenSSL adds to it, either way.
    private static let single = Shelf(16385...17408, most: 8)
    /// The messages of a handshake.
    private static let handshake = Shelf(17409...22528, most: 4)
    /// The heap may give a little more than was asked for.
    private static let slack = 32

    /// Makes all of OpenSSL's memory come from here; to be called before anything else of OpenSSL's. False when it is too late.
    @discardableResult
    package static func install() -> Bool {
        CRYPTO_set_mem_functions(
            { count, _, _ in TLSBuffers.allocate(count) },
            { old, count, _, _ in
                guard count > 0 else {
                    TLSBuffers.release(old)
                    return nil
                }
                return old == nil ? TLSBuffers.allocate(count) : realloc(old, count)
            },
            { pointer, _, _ in TLSBuffers.release(pointer) }) == 1
    }

    /// Memory as malloc gives it; nil for nothing.
    package static func allocate(_ count: Int) -> UnsafeMutableRawPointer? {
        guard count >= single.serves.lowerBound else { return count > 0 ? malloc(count) : nil }
        if single.serves.contains(count) { return single.take() }
        return handshake.serves.contains(count) ? handshake.take() : malloc(count)
    }

    /// Frees what came from `allocate` or from malloc.
    package static func release(_ pointer: UnsafeMutableRawPointer?) {
        guard let pointer else { return }
        // What is of the size of a shelf is as good as what came from it.
        let size = malloc_usable_size(pointer)
        let isKept =
            switch size {
            case ..<single.serves.upperBound: false
            case ...(single.serves.upperBound + slack): single.put(pointer)
            case handshake.serves.upperBound...(handshake.serves.upperBound + slack): handshake.put(pointer)
            default: false
            }
        if !isKept { free(pointer) }
    }
}
