import Store
import Wire

/// The rules of identities, policies and sessions over one store. No sockets; the time is passed in.
package struct Registry: Sendable {
    /// Modules that one device may have.
    package static let mostModules = 50
    /// Children that one Edge device may have.
    package static let mostChildren = 100

    package let store: Store
    package let paths: RuntimePaths

    package init(store: Store, paths: RuntimePaths) {
        self.store = store
        self.paths = paths
    }

    /// Opens the registry of a state directory. A new one gets a policy `iothubowner` with every right.
    package static func open(_ paths: RuntimePaths, _ options: Store.Options = Store.Options()) throws(RegistryError) -> Registry {
        let registry = Registry(store: try stored { () throws(StoreError) in try Store.open(at: paths, options) }, paths: paths)
        guard options.access == .readWrite else { return registry }
        let isSeeded = try registry.read { transaction throws(RegistryError) in
            try stored { () throws(StoreError) in try transaction.counter(seeded) } != 0
        }
        if !isSeeded { try registry.seed() }
        return registry
    }

    private static let seeded = "seeded"

    private func seed() throws(RegistryError) {
        try store.write { transaction throws(RegistryError) in
            guard try Self.stored({ () throws(StoreError) in try transaction.counter(Self.seeded) }) == 0 else { return }
            _ = try Self.createPolicy("iothubowner", .all, in: transaction)
            try Self.stored { () throws(StoreError) in try transaction.setCounter(Self.seeded, 1) }
        }
    }

    /// Runs a command, waits for its commit, and rings the bell for a running hub: for tools. Blocks on the disk.
    @discardableResult
    package func perform(_ command: RegistryCommand, now: Timestamp = .now) throws(RegistryError) -> RegistryOutcome {
        let outcome = try store.write { transaction throws(RegistryError) in
            try Self.apply(command, in: transaction, now: now)
        }
        Bell.ring(paths)
        return outcome
    }

    /// Queues a command for the hub's writer; `completion` is called on the writer's thread, after the commit.
    package func submit(
        _ command: RegistryCommand, to writer: GroupWriter, now: Timestamp = .now,
        completion: @escaping @Sendable (Result<RegistryOutcome, RegistryError>) -> Void
    ) {
        writer.submit(
            { transaction throws(RegistryError) in try Self.apply(command, in: transaction, now: now) }, completion: completion)
    }

    /// Runs `body` on one snapshot.
    func read<Output>(
        _ body: (borrowing ReadTransaction) throws(RegistryError) -> Output
    ) throws(RegistryError) -> Output {
        try store.read(body)
    }
}
