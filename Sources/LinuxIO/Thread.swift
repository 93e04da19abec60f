import CLinux

/// A thread of ours; signals that a role waits for are blocked in it, as in its parent.
package struct Thread: Sendable {
    private let id: UInt64

    package static func start(_ body: @escaping @Sendable () -> Void) throws(SystemError) -> Thread {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        let held = Unmanaged.passRetained(Body(body))
        var id: UInt64 = 0
        let result = clx_thread_start(
            { argument in
                guard let argument else { return }
                Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
            }, held.toOpaque(), &id)
        guard result >= 0 else {
            held.release()
            throw SystemError("pthread_create", -result)
        }
        return Thread(id: id)
    }

    package func join() { clx_thread_join(id) }
}
