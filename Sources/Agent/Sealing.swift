import Connections
import Console
import LinuxIO
import Relay
import Synchronization
import TLS
import Trust
import Wire

/// The device's end of end-to-end sessions: whom it is to the other end, and whom it lets in. Made anew with the settings.
final class Sealing {
    /// How long a service may take to come and to finish its handshake.
    private static let milliseconds = 20_000

    private let client: ClientIdentity
    private let identity: RenewedIdentity
    private var context: TLSContext
    private var generation: Int
    private let services: AuthorizedServices?

    /// Throws when the identity cannot be used.
    init(_ trust: AgentTrust, for client: ClientIdentity) throws(Failure) {
        self.client = client
        services = trust.services
        identity = trust.identity
        let (current, generation) = identity.current
        self.generation = generation
        do throws(TLSError) {
            context = try TLSContext.endToEndServer(chain: current.chain, key: current.key)
        } catch {
            throw .data("the device's key: \(error)")
        }
    }

    /// Whether only those may come in whom a list names; then nobody else learns even whether a port answers.
    var isExclusive: Bool { services?.isInForce == true }

    /// For the next session: shows a certificate that has been renewed as soon as it is there.
    private func newestContext() -> TLSContext {
        let (current, generation) = identity.current
        if generation != self.generation, let fresh = try? TLSContext.endToEndServer(chain: current.chain, key: current.key) {
            context = fresh
            self.generation = generation
        }
        return context
    }

    /// Begins the handshake of a stream's session.
    /// - Parameters:
    ///   - socket: carries nothing else, whichever way it goes.
    ///   - stream: the name under which the stream was asked for.
    ///   - answer: gets the channel, or one line of why there is none.
    func begin(
        _ socket: consuming OwnedDescriptor, for stream: String, on reactor: Reactor,
        _ answer: @escaping (consuming Result<Channel, SealingFailure>, Reactor) -> Void
    ) throws(TLSError) -> SealedHandshake {
        let verdict = Verdict(of: services)
        let admits: @Sendable ([[UInt8]]) -> Bool = { verdict.admits($0) }
        let transport = try Transport(
            accepting: socket, endToEnd: newestContext(), protocolName: StreamPurpose.protocolName(of: client, stream: stream),
            admits: isExclusive ? admits : nil)
        transport.keepAlive()
        let handshake = SealedHandshake(
            transport, withinMilliseconds: Self.milliseconds, lingers: isExclusive, admits: admits
        ) { result, reactor in
            switch consume result {
            case .success(let channel):
                if let service = verdict.permitted { Log.info("service-admitted", ["name": stream, "service": service]) }
                answer(.success(channel), reactor)
            case .failure(let refusal):
                answer(.failure(SealingFailure(reason: verdict.refusal ?? refusal.description)), reactor)
            }
        }
        handshake.start(on: reactor)
        return handshake
    }

    /// What the list says, and said.
    private final class Verdict: Sendable {
        private let services: AuthorizedServices?
        private let spoken = Mutex<AuthorizedServices.Verdict?>(nil)

        init(of services: AuthorizedServices?) { self.services = services }

        private var last: AuthorizedServices.Verdict? { spoken.withLock { $0 } }
        var permitted: String? { if case .permitted(let name) = last { name } else { nil } }
        var refusal: String? { if case .refused(let reason) = last { reason } else { nil } }

        func admits(_ chain: [[UInt8]]) -> Bool {
            guard let services, services.isInForce else { return true }
            let verdict = services.verdict(chain)
            spoken.withLock { $0 = verdict }
            if case .permitted = verdict { return true }
            return false
        }
    }
}

/// Why no end-to-end session came to be; one line for the log.
struct SealingFailure: Error { let reason: String }
