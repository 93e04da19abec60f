import Bytes
import Synchronization

/// Records as they were read last: most requests are about an identity and a policy that others were about before, and to read a
/// record costs more than to find it. Known by all of its bytes, so that a record that has changed is read anew.
package final class RecordMemo<Value: Sendable>: Sendable {
    private static var limit: Int { 256 }
    private let known = Mutex<[[UInt8]: Value]>([:])

    package init() {}

    /// What the record says, from memory or from `read`.
    package func value<Failure: Error>(of record: RawSpan, _ read: (RawSpan) throws(Failure) -> Value) throws(Failure) -> Value {
        let bytes = record.toArray()
        if let value = known.withLock({ $0[bytes] }) { return value }
        let value = try read(record)
        known.withLock { known in
            if known.count >= Self.limit { known.removeAll(keepingCapacity: true) }
            known[bytes] = value
        }
        return value
    }
}
