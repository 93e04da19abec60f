import LinuxIO
import Registry
import Synchronization

/// What a command has led to, on its way from the writer's thread to one that waits for it.
private final class Reply: Sendable {
    private let result = Mutex<Result<RegistryOutcome, RegistryError>?>(nil)
    private let isThere = Semaphore()

    /// Hands the result over; once.
    func send(_ result: Result<RegistryOutcome, RegistryError>) {
        self.result.withLock { $0 = result }
        isThere.signal()
    }

    /// Blocks until the result is there; once.
    func wait() throws(RegistryError) -> RegistryOutcome {
        isThere.wait()
        guard let result = result.withLock({ $0 }) else { throw .invalidOperation("a command has no outcome") }
        return try result.get()
    }
}

extension HubCore {
    /// Runs a command of the hub's own on the writer and waits for its commit, off the reactors; the audit log hears of it.
    func perform(_ command: RegistryCommand) throws(RegistryError) -> RegistryOutcome {
        let reply = Reply()
        registry.submit(command, to: writer) { [self] result in
            changed(command.deeds(result), by: "hub", from: "")
            reply.send(result)
        }
        return try reply.wait()
    }
}
