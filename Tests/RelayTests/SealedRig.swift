import Bytes
import Connections
import Glibc
import LinuxIO
import Relay
import Synchronization
import TLS
import Testing

/// Contexts of both ends, made once.
private struct Ends: Sendable {
    static let shared = Result { try Ends() }
    let device: TLSContext, service: TLSContext
    let cache = TLSSessionCache()

    init() throws {
        func own(_ name: String) throws -> (CertificateChain, PrivateKey) {
            let key = try PrivateKey(generating: .p256)
            return (CertificateChain(leaf: try Certificate.bearer(of: key, commonName: name), others: []), key)
        }
        let (device, service) = (try own("press-17"), try own("service"))
        self.device = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        self.service = try TLSContext.endToEndClient(chain: service.0, key: service.1)
    }
}

/// A stream from local socket to local socket: a bridge at either end, an end-to-end session between them, and as the hub either a wire
/// that the test can cut or the hub's WebSocket legs.
final class SealedRig: Sendable {
    /// The two ends of a stream.
    enum End: Int, Sendable { case service, device }

    let service: Peer, device: Peer
    private let wires: Mutex<[CInt]>
    private let mailbox: Mailbox, thread: Thread
    private let pumps: [Thread]
    private let reports = Mutex<[LocalBridge.Report?]>([nil, nil])
    private let refusals = Mutex<[SealedHandshake.Refusal?]>([nil, nil])
    private let resumed = Mutex(false)

    /// - Parameters:
    ///   - names: what either end says that the session is for.
    ///   - admits: the device's verdict over the service.
    init(
        insideWebSocket: Bool = false, names: [String] = ["iotstream/a", "iotstream/a"],
        admits: @escaping @Sendable ([[UInt8]]) -> Bool = { _ in true }
    ) throws {
        signal(SIGPIPE, SIG_IGN)
        let ends = try Ends.shared.get()
        let (service, serviceFar) = try connectedPair(), (device, deviceFar) = try connectedPair()
        (self.service, self.device) = (service, device)
        (mailbox, thread) = try Reactor.start { _ in }
        let (serviceWire, serviceLeg) = try connectedPair(), (deviceWire, deviceLeg) = try connectedPair()
        if insideWebSocket {
            wires = Mutex([])
            pumps = []
            let ends = [serviceWire.release(), deviceWire.release()]
            mailbox.send { reactor in
                let hub = HubStream()
                reactor.resident = hub
                hub.legs = ends.map { raw in
                    _ = fcntl(raw, F_SETFL, O_NONBLOCK)
                    return WebSocketLeg(Channel(Transport(OwnedDescriptor(adopting: raw))), owner: hub, passesEmpty: true)
                }
                WebSocketLeg.join(hub.legs[0], hub.legs[1], on: reactor)
                for leg in hub.legs { leg.start(on: reactor) }
            }
        } else {
            let (one, two) = (serviceWire.release(), deviceWire.release())
            wires = Mutex([one, two])
            pumps = [try Self.pump(one, two), try Self.pump(two, one)]
        }
        mailbox.send { [self] reactor in
            for (end, local, leg) in [(End.service, serviceFar, serviceLeg), (.device, deviceFar, deviceLeg)] {
                start(end, local, leg, insideWebSocket, names[end.rawValue], ends, admits, on: reactor)
            }
        }
    }

    deinit {
        mailbox.send { $0.stop() }
        thread.join()
        cut()
        for pump in pumps { pump.join() }
        for wire in wires.withLock({ $0 }) { close(wire) }
    }

    private func start(
        _ end: End, _ local: CInt, _ leg: CInt, _ isInside: Bool, _ name: String, _ ends: Ends,
        _ admits: @escaping @Sendable ([[UInt8]]) -> Bool, on reactor: Reactor
    ) {
        let bridge = LocalBridge(local: OwnedDescriptor(adopting: local), on: reactor) { [weak self] _, report, _ in
            self?.reports.withLock { $0[end.rawValue] = report }
        }
        do {
            var socket: OwnedDescriptor? = OwnedDescriptor(adopting: leg)
            var carrier: WebSocketCarrier?
            if isInside, let plain = socket.take() {
                let made = try WebSocketCarrier(Channel(Transport(plain)), on: reactor)
                carrier = made
                socket = made.takeSocket()
            }
            guard let raw = socket.take() else { return }
            let transport =
                end == .device
                ? try Transport(accepting: raw, endToEnd: ends.device, protocolName: name, admits: admits)
                : try Transport(connecting: raw, endToEnd: ends.service, peer: "press-17", protocolName: name, cache: ends.cache)
            let handshake = SealedHandshake(
                transport, withinMilliseconds: 5000, lingers: end == .device, admits: { end == .service || admits($0) }
            ) { [weak self] result, reactor in
                switch consume result {
                case .success(let channel):
                    let isResumed = channel.transport.isResumed
                    self?.resumed.withLock { $0 = isResumed }
                    bridge.join(sealed: channel, inside: carrier, on: reactor)
                case .failure(let refusal):
                    self?.refusals.withLock { $0[end.rawValue] = refusal }
                    carrier?.abandon(on: reactor)
                    bridge.refuse(on: reactor)
                }
            }
            handshake.start(on: reactor)
        } catch {
            Issue.record(error)
        }
    }

    /// Copies one direction; passes on its end, or its break.
    private static func pump(_ from: CInt, _ to: CInt) throws -> Thread {
        var patience = timeval(tv_sec: 0, tv_usec: 0)  // for as long as it takes
        setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        return try Thread.start {
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = recv(from, &chunk, chunk.count, 0)
                if count < 0 { return SealedRig.reset(to) }
                if count == 0 {
                    shutdown(to, CInt(SHUT_WR))
                    var breaking = pollfd(fd: from, events: 0, revents: 0)
                    poll(&breaking, 1, 20_000)
                    if breaking.revents & Int16(POLLERR) != 0 { SealedRig.reset(to) }
                    return
                }
                var sent = 0
                while sent < count {
                    let more = chunk[sent..<count].withUnsafeBytes { send(to, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
                    if more <= 0 { return SealedRig.reset(from) }
                    sent += more
                }
            }
        }
    }

    /// A reset without giving up the number: connecting to nowhere.
    private static func reset(_ socket: CInt) {
        var nowhere = sockaddr(sa_family: sa_family_t(AF_UNSPEC), sa_data: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        connect(socket, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
    }

    /// Cuts the wire: with a reset of both legs, or with the plain end of both.
    func cut(resets: Bool = true) {
        for wire in wires.withLock({ $0 }) { if resets { Self.reset(wire) } else { shutdown(wire, CInt(SHUT_RDWR)) } }
    }

    /// How one end reports the stream's end, within fifteen seconds.
    func report(_ end: End) -> LocalBridge.Report? { patiently { reports.withLock { $0[end.rawValue] } } }
    func refusal(_ end: End) -> SealedHandshake.Refusal? { patiently { refusals.withLock { $0[end.rawValue] } } }
    var isResumed: Bool { resumed.withLock { $0 } }

    private func patiently<Value>(_ look: () -> Value?) -> Value? {
        for _ in 0..<1500 {
            if let value = look() { return value }
            usleep(10_000)
        }
        return nil
    }
}

private final class HubStream: LegOwner {
    var legs: [WebSocketLeg] = []
    func ended(_ leg: any HubLeg, _ end: LegEnd, on reactor: Reactor) {
        for other in legs where other !== leg {
            switch end {
            case .closed(let code): other.close(code: code ?? 1000, on: reactor)
            case .broken: other.close(code: 1011, on: reactor)
            }
        }
    }
}
