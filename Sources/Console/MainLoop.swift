import LinuxIO

/// The main thread of a role that stays until it is told to end.
package enum MainLoop {
    /// Runs a reactor here until it is drained or stopped. Signals are blocked first, so that threads started later inherit that.
    ///
    /// - Parameters:
    ///   - signalled: gets SIGINT, SIGTERM, SIGHUP and SIGCHLD as events.
    ///   - start: sets everything up; a failure ends the loop and is thrown on.
    package static func run(
        signalled: @escaping (CInt, Reactor) -> Void, _ start: (Reactor) throws(Failure) -> Void
    ) throws(Failure) {
        Signals.block()
        Process.raiseDescriptorLimit()
        var failure: Failure?
        do throws(SystemError) {
            try Reactor.runHere { reactor in
                do throws(Failure) {
                    do throws(SystemError) {
                        _ = try Signals(on: reactor, received: signalled)
                    } catch {
                        throw .system("signals: \(error.reason)")
                    }
                    try start(reactor)
                } catch {
                    failure = error
                    reactor.stop()
                }
            }
        } catch {
            throw .system("the event loop: \(error.reason)")
        }
        if let failure { throw failure }
    }
}
