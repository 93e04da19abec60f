import LinuxIO

/// What works beside the reactors without being asked: scheduled jobs, configurations, imports and exports.
struct Desks: Sendable {
    let jobs: JobDesk
    let configurations: ConfigurationDesk
    let transfers: TransferDesk

    init(core: HubCore) throws(SystemError) {
        jobs = try JobDesk(core: core)
        configurations = try ConfigurationDesk(core: core)
        transfers = try TransferDesk(core: core)
        transfers.wake()
        core.whenStirred { [configurations] in configurations.changed($0) }
    }

    /// Nobody knows what has changed.
    func wake() {
        jobs.wake()
        configurations.wake()
        transfers.wake()
    }

    /// Time has passed.
    func look() {
        jobs.look()
        configurations.look()
    }

    /// The hub is about to end.
    func stop() {
        jobs.stop()
        configurations.stop()
    }

    /// Ends the threads; after the reactors, and before the writer.
    func finish() {
        jobs.finish()
        configurations.finish()
        transfers.finish()
    }
}
