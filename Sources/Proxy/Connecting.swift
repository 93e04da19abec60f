import Console
import Glibc
import LinuxIO
import Relay

/// The work of `iotstream connect`: one stream, joined with standard input and output.
final class Connecting {
    private let service: HubService
    private let target: StreamTarget
    private var bridge: LocalBridge?
    private var opening: StreamOpening?
    private var streams: StandardStreams?
    private var failure: Failure?

    init(_ settings: ServiceSettings, target: StreamTarget) throws(Failure) {
        service = try HubService(settings, role: "connect")
        self.target = target
    }

    /// Runs until the stream has ended and everything has been written.
    func run() throws(Failure) {
        StandardStreams.occupy()
        Signals.block()
        do throws(SystemError) {
            try Reactor.runHere { reactor in
                do throws(SystemError) { try start(on: reactor) } catch {
                    failure = .system("\(error)")
                    reactor.stop()
                }
            }
        } catch {
            throw .system("the event loop: \(error.reason)")
        }
        if failure == nil { streams?.finishWriting() }
        if let failure { throw failure }
    }

    private func start(on reactor: Reactor) throws(SystemError) {
        _ = try Signals(on: reactor) { [self] number, reactor in signalled(number, on: reactor) }
        opening = StreamOpening(target, at: service, on: reactor) { [self] result, reactor in
            opening = nil
            switch consume result {
            case .failure(let failure): end(failure.failure(of: target.description), on: reactor)
            case .success(let stream):
                Log.info("stream-opened", ["target": target.description, "mode": stream.mode])
                join(stream, on: reactor)
            }
        }
    }

    /// Only now is standard input read: a stream that never opens takes nothing of it.
    private func join(_ stream: consuming OpenedStream, on reactor: Reactor) {
        do throws(SystemError) {
            let mailbox = reactor.mailbox
            reactor.resident = self  // found again by what the threads send
            let streams = try StandardStreams.open { trouble in
                mailbox.send { reactor in (reactor.resident as? Connecting)?.troubled(trouble, on: reactor) }
            }
            self.streams = streams
            guard let socket = streams.takeSocket() else { return }
            let bridge = LocalBridge(local: socket, on: reactor) { [self] _, report, reactor in ended(report, on: reactor) }
            self.bridge = bridge
            stream.join(bridge, on: reactor)
        } catch {
            end(.system("\(error)"), on: reactor)
        }
    }

    private func troubled(_ trouble: StandardStreams.Trouble, on reactor: Reactor) {
        switch trouble {
        case .input(let number): failure = failure ?? .errno(number, "standard input")
        case .output(EPIPE): failure = failure ?? .silent(exitCode: 1)  // as when SIGPIPE ends a program
        case .output(let number): failure = failure ?? .io("standard output: \(Failure.describe(errno: number))")
        }
        bridge?.resetLocal(on: reactor)
        leaveSoon(on: reactor)
    }

    private func ended(_ report: LocalBridge.Report, on reactor: Reactor) {
        bridge = nil
        Log.info(
            "stream-closed",
            ["reason": report.end.description, "sent": "\(report.bytesFromLocal)", "received": "\(report.bytesToLocal)"])
        switch report.end {
        case .orderly: reactor.stop()
        case .localReset where failure == nil: end(.refused("\(target): standard input or output went away"), on: reactor)
        default: end(.refused("\(target): \(service.complaint(about: report, of: target) ?? report.end.description)"), on: reactor)
        }
    }

    private func end(_ failure: Failure, on reactor: Reactor) {
        if self.failure == nil { self.failure = failure }
        reactor.stop()
    }

    /// ssh sends SIGHUP when it has ended: that is an orderly end. The others are a person's.
    private func signalled(_ number: CInt, on reactor: Reactor) {
        guard number != SIGCHLD else { return }
        if number != SIGHUP { failure = failure ?? .silent(exitCode: 128 + number) }
        opening.take()?.cancel(on: reactor)
        guard let bridge else { return reactor.stop() }
        bridge.finish(on: reactor)
        leaveSoon(on: reactor)
    }

    /// The hub gets a moment for its Close.
    private func leaveSoon(on reactor: Reactor) {
        let timer = Timer(on: reactor) { _, reactor in reactor.stop() }
        timer.set(inMilliseconds: 1000, on: reactor)
    }
}
