import Console
import Dialing
import Glibc
import LinuxIO
import Wire

/// The work of `iotstream bench`, one step after the other on the calling thread; what the network does is on a reactor's.
final class Benchmarking {
    private let settings: ServiceSettings
    private let plan: BenchRole.Plan
    private let mailbox: Mailbox
    private let thread: LinuxIO.Thread
    private var report: BenchReport
    private static let handshakes = 5, requests = 20, trips = 2000
    private static let tripNanoseconds: UInt64 = 2_000_000_000

    init(_ settings: ServiceSettings, _ plan: BenchRole.Plan) throws(Failure) {
        self.settings = settings
        self.plan = plan
        report = BenchReport(
            target: plan.target, hub: settings.connection.host,
            proxy: settings.access.proxies.proxy(for: settings.connection.host)?.place.description)
        do throws(SystemError) { (mailbox, thread) = try Reactor.start { _ in } } catch { throw .system("cannot start a thread: \(error)") }
    }

    /// Measures, or says why that cannot be done.
    func run() throws(Failure) -> BenchReport {
        defer {
            letStreamsEnd()
            mailbox.send { $0.stop() }
            thread.join()
        }
        let settings = settings
        let failure: Failure? = call { reactor, done in
            do throws(Failure) {
                reactor.resident = try BenchDesk(settings)
                done(nil)
            } catch {
                done(error)
            }
        }
        if let failure { throw failure }
        try measureHub()
        let isWarm: Bool = call { reactor, done in
            BenchDesk.of(reactor)?.start(on: reactor)
            done(settings.warm > 0)
        }
        if isWarm { usleep(500_000) }
        try measureOpening()
        guard plan.isMeasuringService || plan.isEcho else { return report }
        try measureRoundTrips()
        if plan.isMeasuringService, plan.seconds > 0 {
            report.toDevice = try measureToDevice()
            report.fromDevice = try measureFromDevice()
        }
        return report
    }

    /// Runs `work` on the reactor and waits for what it says is done.
    private func call<Value: Sendable>(_ work: @escaping @Sendable (Reactor, @escaping @Sendable (Value) -> Void) -> Void) -> Value {
        let result = Handoff<Value>()
        mailbox.send { reactor in work(reactor) { result.give($0) } }
        return result.take()
    }

    /// The other ends see an orderly end; they have a second for it.
    private func letStreamsEnd() {
        for _ in 0..<100 {
            if call({ reactor, done in done(BenchDesk.of(reactor)?.isIdle ?? true) }) { return }
            usleep(10_000)
        }
    }

    private func hop(_ key: String, _ title: String, _ times: [UInt64]) -> BenchReport.Hop {
        BenchReport.Hop(key: key, title: title, times: BenchTimes(times))
    }

    // The hub

    private func ask(anew: Bool) throws(Failure) -> BenchDesk.Asked {
        let result: Result<BenchDesk.Asked, DialError> = call { reactor, done in
            guard let desk = BenchDesk.of(reactor) else { return }
            if anew { desk.forget(on: reactor) }
            desk.ask(on: reactor) { done($0) }
        }
        switch result {
        case .failure(let error): throw StreamFailure.unreachable(error).failure(of: plan.target.description)
        case .success(let asked): return asked
        }
    }

    private func measureHub() throws(Failure) {
        var names: [UInt64] = [], dials: [UInt64] = [], tunnels: [UInt64] = [], full: [UInt64] = [], resumed: [UInt64] = []
        var isFirst = true
        for _ in 0..<Self.handshakes {
            guard let marks = try ask(anew: true).marks, let resolved = marks.resolved, let connected = marks.connected,
                let encrypted = marks.encrypted
            else { continue }
            if isFirst { names.append(resolved - marks.began) }
            isFirst = false
            dials.append(connected - resolved)
            if let tunnelled = marks.tunnelled { tunnels.append(tunnelled - connected) }
            let handshake = encrypted - (marks.tunnelled ?? connected)
            if marks.isResumed { resumed.append(handshake) } else { full.append(handshake) }
        }
        var requests: [UInt64] = []
        for _ in 0..<Self.requests {
            let asked = try ask(anew: false)
            requests.append(asked.ended - asked.began)
        }
        report.hops = [
            hop("name", "name resolution", names), hop("connect", report.proxy == nil ? "TCP connect" : "TCP connect to the proxy", dials),
            hop("tunnel", "way through the proxy", tunnels), hop("tlsFull", "TLS handshake, full", full),
            hop("tlsResumed", "TLS handshake, resumed", resumed), hop("request", "request to the hub", requests),
        ].filter { !$0.times.isEmpty }
    }

    // Streams

    private func open() throws(Failure) -> BenchDesk.Opened {
        let target = plan.target
        let result: Result<BenchDesk.Opened, StreamFailure> = call { reactor, done in
            BenchDesk.of(reactor)?.open(target, on: reactor) { done($0) }
        }
        switch result {
        case .success(let opened): return opened
        case .failure(.rejected(let reason?)) where plan.isMeasuringService && reason == "bench is not allowed":
            throw .refused(
                "\(target): the device does not offer its measuring service",
                "run its agent with --allow bench, or put `allow bench` into its configuration and send it SIGHUP")
        case .failure(let failure): throw failure.failure(of: target.description)
        }
    }

    private func talking<Value>(_ body: () throws(BenchTalk.Broken) -> Value) throws(Failure) -> Value {
        do throws(BenchTalk.Broken) { return try body() } catch {
            let isMute = plan.isEcho && error.reason == BenchTalk.silence
            throw .refused("\(plan.target): \(error.reason)", isMute ? "does it send back what it gets, as --echo says?" : "")
        }
    }

    private func measureOpening() throws(Failure) {
        var first: [UInt64] = [], asked: [UInt64] = [], legs: [UInt64] = [], seals: [UInt64] = [], bytes: [UInt64] = [], all: [UInt64] = []
        for round in 0..<plan.count {
            let opened = try open(), marks = opened.marks
            report.mode = opened.mode
            var ended = marks.opened
            if plan.isMeasuringService || plan.isEcho {
                try talking { () throws(BenchTalk.Broken) in
                    if plan.isMeasuringService { try opened.talk.command("echo") } else { _ = try opened.talk.roundTrip([0x0A]) }
                }
                ended = Clock.nanoseconds
                bytes.append(ended - marks.opened)
            }
            opened.talk.endWriting()
            opened.talk.end()
            if round == 0, plan.count > 1 {  // what is remembered from one stream to the next is made by the first
                first.append(ended - marks.asked)
                continue
            }
            asked.append(marks.answered - marks.asked)
            legs.append(marks.upgraded - marks.answered)
            if opened.mode != "websocket" { seals.append(marks.opened - marks.upgraded) }
            all.append(ended - marks.asked)
        }
        report.opening = [
            hop("answer", "stream: asked and answered", asked), hop("leg", "stream: leg to the hub", legs),
            hop("handshake", "stream: end-to-end handshake", seals), hop("firstByte", "stream: first byte back", bytes),
            hop("total", bytes.isEmpty ? "stream: open" : "stream: to the first byte", all), hop("first", "the first stream of all", first),
        ].filter { !$0.times.isEmpty }
    }

    // Bytes

    private func measureRoundTrips() throws(Failure) {
        let opened = try open(), isCommanded = plan.isMeasuringService
        report.roundTrips = try talking { () throws(BenchTalk.Broken) in
            if isCommanded { try opened.talk.command("echo") }
            let bytes = [UInt8](repeating: 0x5A, count: BenchReport.roundTripBytes)
            for _ in 0..<10 { _ = try opened.talk.roundTrip(bytes) }
            var times: [UInt64] = []
            let began = Clock.nanoseconds
            while times.count < Self.trips, Clock.nanoseconds - began < Self.tripNanoseconds {
                times.append(try opened.talk.roundTrip(bytes))
            }
            opened.talk.endWriting()
            return BenchTimes(times)
        }
        opened.talk.end()
    }

    private static func rate(_ bytes: UInt64, _ nanoseconds: UInt64) -> Double { Double(bytes) * 1e9 / Double(max(1, nanoseconds)) }

    /// Sends for some seconds, and waits until the device has said how much has come.
    private func measureToDevice() throws(Failure) -> Double {
        let opened = try open(), limit = UInt64(plan.seconds) * 1_000_000_000
        defer { opened.talk.end() }
        return try talking { () throws(BenchTalk.Broken) in
            try opened.talk.command("discard")
            let block = [UInt8](repeating: 0x5A, count: BenchTalk.chunk), began = Clock.nanoseconds
            var sent: UInt64 = 0
            while Clock.nanoseconds - began < limit {
                try opened.talk.write(block.span.bytes)
                sent += UInt64(block.count)
            }
            opened.talk.endWriting()
            let count = try opened.talk.line(), ended = Clock.nanoseconds
            guard UInt64(count) == sent else { throw BenchTalk.Broken(reason: "the device has got \(count) of \(sent) bytes") }
            return Self.rate(sent, ended - began)
        }
    }

    /// Has the device send for some seconds.
    private func measureFromDevice() throws(Failure) -> Double {
        let opened = try open(), limit = UInt64(plan.seconds) * 1_000_000_000
        defer { opened.talk.end() }
        return try talking { () throws(BenchTalk.Broken) in
            try opened.talk.command("source \(Int64.max)")
            var received: UInt64 = 0
            let began = Clock.nanoseconds
            while Clock.nanoseconds - began < limit {
                let count = try opened.talk.skip()
                guard count > 0 else { throw BenchTalk.Broken(reason: "the stream ended") }
                received += UInt64(count)
            }
            return Self.rate(received, Clock.nanoseconds - began)
        }
    }
}
